//! `bitnet inspect`: shows what is in a checkpoint.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_models::checkpoint::inspect::Inspection;
use clap::Args;
use serde_json::Value;

use crate::printable;

/// The longest value of a key that is shown whole, in characters.
const LONGEST: usize = 60;
/// The longest cell of a table that is shown whole, in characters: a long one widens its column in all rows.
const LONGEST_CELL: usize = 120;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A GGUF or safetensors file, or a checkpoint directory
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Arguments {
    pub(crate) fn execute(self) -> Result<ExitCode, Box<dyn Error>> {
        let inspection = Inspection::of(&self.path)?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{:#}", serde_json::to_value(&inspection)?)?;
        } else {
            show(&inspection, &mut out)?;
        }
        out.flush()?;
        for problem in &inspection.problems {
            let _ = writeln!(io::stderr(), "error: {}", printable(problem));
        }
        Ok(if inspection.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn show(inspection: &Inspection, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}: {}", in_a_line(&inspection.path), inspection.format)?;
    let pairs = |map: &serde_json::Map<String, Value>| {
        map.iter().map(|(key, value)| vec![in_a_line(key), short(value)]).collect::<Vec<_>>()
    };
    if let Value::Object(config) = &inspection.config {
        section(out, "configuration", &pairs(config))?;
    }
    if !inspection.metadata.is_empty() {
        section(out, "metadata", &pairs(&inspection.metadata))?;
    }
    let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| bytes.to_string());
    let rows = inspection.tensors.iter().map(|row| {
        vec![
            in_a_line(&row.name),
            in_a_line(&row.kind),
            format!("{:?}", row.shape),
            format!("{} bytes", bytes(row.bytes)),
        ]
    });
    section(out, "tensors", &rows.collect::<Vec<_>>())?;
    let totals = inspection.totals.iter().map(|total| {
        vec![
            in_a_line(&total.kind),
            format!("{} tensors", total.tensors),
            format!("{} values", total.values),
            format!("{} bytes", total.bytes),
        ]
    });
    section(out, "by type", &totals.collect::<Vec<_>>())
}

/// A heading and aligned columns.
fn section(out: &mut impl Write, heading: &str, rows: &[Vec<String>]) -> io::Result<()> {
    writeln!(out, "\n{heading}")?;
    let cut = |row: &Vec<String>| row.iter().map(|cell| beginning(cell, LONGEST_CELL)).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(cut).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in &rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "  {}", line.join("  ").trim_end())?;
    }
    Ok(())
}

/// A value in a line; an array by its type and length.
fn short(value: &Value) -> String {
    let text = match value {
        Value::String(text) => in_a_line(text),
        Value::Object(array) if array.contains_key("array") => {
            format!("{} {}", array["length"], array["array"].as_str().unwrap_or_default())
        }
        other => other.to_string(),
    };
    beginning(&text, LONGEST)
}

/// A text, or its first characters and how many it has.
fn beginning(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}... ({} characters)", &text[..end], text.chars().count()),
        None => text.to_owned(),
    }
}

/// A text from a file, made harmless and without line breaks.
fn in_a_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}
