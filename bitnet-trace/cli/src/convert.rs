//! `bitnet-trace convert SOURCE DESTINATION`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::tools::{TraceFormat, convert, open_whole};
use clap::{Args, ValueEnum};

use crate::outcome::Outcome;
use crate::table;

/// Writes a trace in another format
#[derive(Args)]
pub(crate) struct Convert {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    source: PathBuf,
    /// What to write: a directory, or for tables a file; it must not be there yet
    destination: PathBuf,
    /// The format to write
    #[arg(long, value_enum)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A directory with one `.trace` file a record.
    Files,
    /// A directory with one line a record in `trace.jsonl`.
    Jsonl,
    /// A table, a row a record, as comma-separated text.
    Csv,
    /// The same table as Apache Parquet.
    ///
    /// Its columns are of type `INT64`, `DOUBLE` and text; `order` and `request`, which may be any 64-bit number,
    /// are `INT64` marked as unsigned.
    Parquet,
}

impl Convert {
    pub(crate) fn execute(&self) -> Outcome {
        let (source, destination) = (&self.source, &self.destination);
        let records = match self.format {
            Format::Files => convert(source, destination, TraceFormat::Files)?,
            Format::Jsonl => convert(source, destination, TraceFormat::Jsonl)?,
            Format::Csv => table::write(&open_whole(source)?, destination, table::write_csv)?,
            Format::Parquet => table::write(&open_whole(source)?, destination, table::write_parquet)?,
        };
        writeln!(anstream::stderr(), "{records} records in {}", self.destination.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
