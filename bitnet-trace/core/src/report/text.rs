//! Records as a table in plain text.

use std::borrow::Borrow;
use std::fmt;

use super::columns::Columns;
use super::printable;
use crate::record::TraceRecord;

/// A table of records, or of references to them: sequence index, layer, stage, shape, rms, first 8 hex digits of the hash.
///
/// ```
/// # use bitnet_trace_core::TraceRecord;
/// # use bitnet_trace_core::report::{Table};
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

// Derived, these two would ask `R` to be `Copy`.
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
    let mut stage = record.stage.clone().unwrap_or_else(|| record.name.clone());
    if let Some(label) = &record.output {
        stage = format!("{stage}.{label}");
    }
    if record.call > 0 {
        stage = format!("{stage}#{}", record.call);
    }
    [
        index(record.seq_index),
        index(record.layer_idx),
        printable(&stage).into_owned(),
        format!("{:?}", record.shape),
        significant(record.rms),
        printable(&record.blake3.chars().take(8).collect::<String>()).into_owned(),
    ]
}

/// Six significant digits, without zeros at the end; in scientific notation below 1e-4 and from 1e6.
fn significant(value: f64) -> String {
    let scientific = format!("{value:.5e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific; // NaN and infinities
    };
    // The exponent of the rounded value: 999999.5 has become 1e6.
    match exponent.parse::<i32>().map(|exponent| (exponent, usize::try_from(5 - exponent))) {
        Ok((-4..6, Ok(decimals))) => without_zeros(&format!("{value:.decimals$}")).to_owned(),
        _ => format!("{}e{exponent}", without_zeros(mantissa)),
    }
}

/// A decimal number without the zeros that end its fraction.
fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::significant;

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
            assert_eq!(significant(value), expected, "{value:?}");
        }
    }
}
