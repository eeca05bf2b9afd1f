//! Prints records as a table of plain text.

use std::borrow::Borrow;
use std::fmt;

use super::columns::Columns;
use super::printable;
use crate::record::TraceRecord;

/// A table of records, or of references to them. Its columns are step (`seq`), layer, stage, shape, root mean square
/// and the first 8 hex digits of the hash.
///
/// ```
/// # use bitnet_trace_core::TraceRecord;
/// # use bitnet_trace_core::report::Table;
/// # let json = r#"{"name":"t0/blk1/q","shape":[1,2],"dtype":"F32","blake3":"0123456789","rms":1.5,"num_elements":2,
/// #               "seq":0,"layer":1,"stage":"q"}"#;
/// # let record: TraceRecord = serde_json::from_str(json).unwrap();
/// assert_eq!(
///     Table(&[record]).to_string(),
///     "seq  layer  stage  shape   rms  blake3\n  0      1  q      [1, 2]  1.5  01234567\n"
/// );
/// ```
#[derive(Debug)]
pub struct Table<'a, R = TraceRecord>(pub &'a [R]);

// If these two were derived, they would need `R: Copy`.
impl<R> Clone for Table<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Table<'_, R> {}

const COLUMNS: usize = 6;

const LAYOUT: Columns<COLUMNS> =
    Columns { right: [true, true, false, false, true, false], indent: "", widest: usize::MAX };

impl<R: Borrow<TraceRecord>> fmt::Display for Table<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["seq", "layer", "stage", "shape", "rms", "blake3"].map(str::to_owned)];
        rows.extend(self.0.iter().map(|record| row(record.borrow())));
        LAYOUT.write(f, &rows)
    }
}

fn row(record: &TraceRecord) -> [String; COLUMNS] {
    let index = |index: Option<usize>| index.map_or_else(|| "-".to_owned(), |index| index.to_string());
    [
        index(record.seq_index),
        index(record.layer_idx),
        printable(&stage_of(record)).into_owned(),
        format!("{:?}", record.shape),
        significant(record.rms, TABLE_DIGITS),
        printable(&record.blake3.chars().take(8).collect::<String>()).into_owned(),
    ]
}

/// The stage with what tells its records apart: `qkv.q`, `rope.in.q`, `proj#1`, `fc1.weight (gradient)`. Weights, and records
/// without a stage, have a name of their own.
fn stage_of(record: &TraceRecord) -> String {
    let io = record.io.as_deref();
    let mut text = match &record.stage {
        Some(stage) if io != Some("weight") => stage.clone(),
        _ => return record.name.clone(),
    };
    // The name of a record has these two between the stage and the label.
    if let Some(io @ ("in" | "let")) = io {
        text = format!("{text}.{io}");
    }
    if let Some(label) = &record.output {
        text = format!("{text}.{label}");
    }
    if record.call > 0 {
        text = format!("{text}#{}", record.call);
    }
    if io == Some("grad") {
        text.push_str(" (gradient)");
    }
    text
}

/// Significant digits of the numbers of a table.
const TABLE_DIGITS: u8 = 6;

/// At most `digits` significant digits (at least 1), without zeros at the end of the fraction. Scientific
/// notation below 1e-4, and from the first number that has more digits before the point.
pub(super) fn significant(value: f64, digits: u8) -> String {
    let after_first = usize::from(digits.saturating_sub(1));
    let scientific = format!("{value:.after_first$e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific; // NaN and infinities
    };
    // This is the exponent of the rounded value: 999999.5 has become 1e6.
    let Ok(exponent) = exponent.parse::<i32>() else { return scientific };
    match usize::try_from(i32::from(digits) - 1 - exponent) {
        Ok(decimals) if exponent >= -4 => without_zeros(&format!("{value:.decimals$}")).to_owned(),
        _ => format!("{}e{exponent}", without_zeros(mantissa)),
    }
}

/// A decimal number without the zeros that end its fraction.
fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::{TABLE_DIGITS, Table, significant};
    use crate::record::TraceRecord;

    #[test]
    fn numbers_have_six_significant_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (100_000.0, "100000"),
            (0.123_447_43, "0.123447"),
            (1.118_571_155, "1.11857"),
            (123_456.789_012, "123457"),
            (-123.456_789, "-123.457"),
            (0.000_123_456_78, "0.000123457"),
            (0.000_1, "0.0001"),
            (0.000_099_999_99, "0.0001"),
            (0.000_012_345_678, "1.23457e-5"),
            (999_999.4, "999999"),
            (999_999.5, "1e6"),
            (12_345_678.0, "1.23457e7"),
            (1e300, "1e300"),
            (5e-324, "4.94066e-324"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(significant(value, TABLE_DIGITS), expected, "{value:?}");
        }
        for (value, expected) in [(0.003_82, "0.0038"), (0.000_004_999, "5e-6"), (99.6, "1e2"), (7.04, "7")] {
            assert_eq!(significant(value, 2), expected, "{value:?}");
        }
    }

    #[test]
    fn a_row_names_inputs_locals_and_weights_as_their_records_do() {
        for (fields, expected) in [
            (r#""stage":"rope","io":"in","output":"q""#, "rope.in.q"),
            (r#""stage":"rope","io":"let","output":"q","call":2"#, "rope.let.q#2"),
            (r#""stage":"rope","output":"q""#, "rope.q"),
            (r#""stage":"rope","call":1"#, "rope#1"),
            (r#""io":"weight""#, "the/name"),
            (r#""stage":"norm","io":"weight""#, "the/name"),
            (r#""stage":"fc1.weight","io":"grad","call":1"#, "fc1.weight#1 (gradient)"),
            (r#""call":1"#, "the/name"),
        ] {
            let json = format!(
                r#"{{"name":"the/name","shape":[1],"dtype":"F32","blake3":"00","rms":1.0,"num_elements":1,{fields}}}"#
            );
            let record: TraceRecord = serde_json::from_str(&json).expect("a record");
            let table = Table(&[record]).to_string();
            let row = table.lines().nth(1).expect("a row").trim_start().trim_start_matches(['-', ' ']);
            assert!(row.starts_with(&format!("{expected}  ")), "{expected}: {table}");
        }
    }
}
