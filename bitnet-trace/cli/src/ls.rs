//! `bitnet-trace ls TRACE`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::Trace;
use bitnet_trace_core::report::Table;
use clap::{Args, ValueEnum};

use crate::outcome::{FAILED, Outcome, warn_of};

/// Lists the records of a trace
#[derive(Args)]
pub(crate) struct Ls {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    trace: PathBuf,
    /// Which records, in the words of `BITNET_TRACE_FILTER`: `stage=attn_*,layer=0-3`
    #[arg(long, default_value = "all")]
    filter: String,
    /// In which order
    #[arg(long, value_enum, default_value_t = Sort::Order)]
    sort: Sort,
    /// Prints a record a line, as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    /// Execution order
    Order,
    Name,
    Stage,
    /// Largest first
    Rms,
    /// Most elements first
    Size,
}

impl Ls {
    pub(crate) fn execute(&self) -> Outcome {
        let trace = Trace::open(&self.trace)?;
        let mut records = trace.filtered(&self.filter)?;
        match self.sort {
            Sort::Order => {}
            Sort::Name => records.sort_by(|a, b| a.name.cmp(&b.name)),
            Sort::Stage => records.sort_by(|a, b| a.stage.cmp(&b.stage)),
            // Those without a number come first: they are what is looked for.
            Sort::Rms => records.sort_by(|a, b| b.rms.total_cmp(&a.rms)),
            Sort::Size => records.sort_by_key(|record| std::cmp::Reverse(record.num_elements)),
        }
        let mut out = anstream::stdout().lock();
        if self.json {
            for record in &records {
                serde_json::to_writer(&mut out, record)?;
                writeln!(out)?;
            }
        } else {
            write!(out, "{}", Table(&records))?;
        }
        warn_of(trace.problems());
        let nothing = trace.records().is_empty();
        Ok(if nothing { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
    }
}
