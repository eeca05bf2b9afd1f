//! Records as a table in plain text.

use std::borrow::Borrow;
use std::fmt;

use super::printable;
use crate::record::TraceRecord;

/// A table of records, or of references to them: sequence index, layer, stage, shape, rms, first 8 hex digits of the hash.
///
/// ```
/// # use bitnet_trace::{Table, TraceRecord};
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

/// Right-aligned, as numbers are.
const NUMBERS: [bool; COLUMNS] = [true, true, false, false, true, false];

impl<R: Borrow<TraceRecord>> fmt::Display for Table<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = vec![["seq", "layer", "stage", "shape", "rms", "blake3"].map(str::to_owned)];
        rows.extend(self.0.iter().map(|record| row(record.borrow())));
        let mut widths = [0; COLUMNS];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in &rows {
            let cells = row.iter().zip(widths).zip(NUMBERS).map(|((cell, width), number)| {
                if number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            writeln!(f, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
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

/// Six significant digits.
fn significant(value: f64) -> String {
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        return format!("{value:.5e}");
    }
    let text = format!("{value:.6}");
    let digits = text.trim_end_matches('0').trim_end_matches('.');
    if digits.is_empty() { text } else { digits.to_owned() }
}
