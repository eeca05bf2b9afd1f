//! `bitnet-trace ls TRACE`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::Trace;
use bitnet_trace_core::report::Table;
use clap::{Args, ValueEnum};

use crate::outcome::{FAILED, Outcome, warn_of};

/// Lists the records of a trace
///
/// Prints one line for each record: step (`seq`), layer, stage, shape, root mean square and the first 8 digits of the
/// hash.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Ls {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    trace: PathBuf,
    /// List only these records; the syntax is that of `BITNET_TRACE_FILTER`, as in `stage=attn_*,layer=0-3`
    #[arg(long, default_value = "all")]
    filter: String,
    /// Sort the records by this
    #[arg(long, value_enum, default_value_t = Sort::Order)]
    sort: Sort,
    /// Print the records as JSON, one on each line, with the fields that they have in the trace
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  bitnet-trace ls before
  bitnet-trace ls before --filter \"seq=0,layer=0,io=out\" --sort rms

Exit codes:
  0  the records were listed
  2  wrong usage, or no record could be read";

#[derive(Clone, Copy, ValueEnum)]
enum Sort {
    /// Execution order
    Order,
    /// Name of the record
    Name,
    /// Stage
    Stage,
    /// Root mean square, largest first
    Rms,
    /// Number of elements, largest first
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
            // NaN sorts as the largest: a record that is not finite is what one looks for.
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
        Ok(if trace.records().is_empty() { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
    }
}
