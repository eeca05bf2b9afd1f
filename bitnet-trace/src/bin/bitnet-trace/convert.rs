//! `bitnet-trace convert SOURCE DESTINATION`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace::{TraceFormat, convert};
use clap::{Args, ValueEnum};

use crate::Outcome;

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

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// A directory with one `.trace` file a record
    Files,
    /// A directory with one line a record in `trace.jsonl`
    Jsonl,
    /// A table, a row a record, as comma-separated text
    Csv,
    /// The same table as Apache Parquet
    Parquet,
}

impl Convert {
    pub(crate) fn execute(&self) -> Outcome {
        let format = match self.format {
            Format::Files => TraceFormat::Files,
            Format::Jsonl => TraceFormat::Jsonl,
            Format::Csv => TraceFormat::Csv,
            Format::Parquet => TraceFormat::Parquet,
        };
        let records = convert(&self.source, &self.destination, format)?;
        writeln!(anstream::stderr(), "{records} records in {}", self.destination.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
