//! `bitnet-trace convert SOURCE DESTINATION`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::tools::{TraceFormat, convert, open_whole};
use clap::{Args, ValueEnum};

use crate::outcome::Outcome;
use crate::table;

/// Writes a trace in another format
///
/// `files` and `jsonl` are formats of trace directories and keep everything, captured values included. `csv` and
/// `parquet` are tables with one row for each record, for spreadsheets and data frames: they leave out sketches, row
/// hashes and the values themselves. A damaged trace is not converted.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Convert {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    source: PathBuf,
    /// The directory to write, or the file for `csv` and `parquet`; it must not exist yet
    destination: PathBuf,
    /// The format to write
    #[arg(long, value_enum)]
    format: OutputFormat,
}

const AFTER_HELP: &str = "\
Examples:
  bitnet-trace convert before before-lines --format jsonl
  bitnet-trace convert before before.csv --format csv

Exit codes:
  0  the trace was written
  2  wrong usage, the source is damaged or cannot be read, the destination exists or cannot be written";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// A directory with one `.trace` file for each record
    Files,
    /// A directory with a file `trace.jsonl` that has one line for each record
    Jsonl,
    /// A table with one row for each record, as comma-separated text
    Csv,
    /// The same table as an Apache Parquet file
    ///
    /// Its columns have the types `INT64`, `DOUBLE` and text. `order` and `request` may be any unsigned 64-bit
    /// number, so they are `INT64` with the logical type for unsigned integers.
    Parquet,
}

impl Convert {
    pub(crate) fn execute(&self) -> Outcome {
        let (source, destination) = (&self.source, &self.destination);
        let records = match self.format {
            OutputFormat::Files => convert(source, destination, TraceFormat::Files)?,
            OutputFormat::Jsonl => convert(source, destination, TraceFormat::Jsonl)?,
            OutputFormat::Csv => table::write_csv(open_whole(source)?.records(), destination)?,
            OutputFormat::Parquet => table::write_parquet(open_whole(source)?.records(), destination)?,
        };
        writeln!(anstream::stderr(), "{records} records in {}", self.destination.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
