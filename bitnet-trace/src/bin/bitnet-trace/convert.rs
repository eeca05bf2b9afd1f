//! `bitnet-trace convert SOURCE DESTINATION`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace::{TraceFormat, convert};
use clap::Args;

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
    format: TraceFormat,
}

impl Convert {
    pub(crate) fn execute(&self) -> Outcome {
        let records = convert(&self.source, &self.destination, self.format)?;
        writeln!(anstream::stderr(), "{records} records in {}", self.destination.display())?;
        Ok(ExitCode::SUCCESS)
    }
}
