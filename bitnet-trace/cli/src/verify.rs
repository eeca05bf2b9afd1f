//! `bitnet-trace verify TRACE`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::report::printable;
use bitnet_trace_core::tools::verify;
use clap::Args;

use crate::outcome::{DIFFERS, Outcome, WithSchema, progress};

/// Checks that a trace is complete and undamaged
///
/// Checks that the run ended cleanly and that no record is missing or lost, and computes hash, statistics, sketch and
/// row hashes of captured values again to compare them with the record. It also lists the annotated functions that
/// were never called; that is not a fault of the trace.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Verify {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    trace: PathBuf,
    /// Print the findings as one JSON object, whose field `schema` is `bitnet-trace/verify/1`
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Example:
  bitnet-trace verify before

Exit codes:
  0  the trace is complete and undamaged
  1  something is wrong with the trace
  2  wrong usage, or nothing of the trace could be read";

/// The version of the output of `--json`.
const SCHEMA: &str = "bitnet-trace/verify/1";

impl Verify {
    pub(crate) fn execute(&self) -> Outcome {
        let bar = progress("verifying");
        let found = verify(&self.trace, &mut |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        });
        bar.finish_and_clear();
        let found = found?;
        let mut out = anstream::stdout().lock();
        if self.json {
            serde_json::to_writer_pretty(&mut out, &WithSchema { schema: SCHEMA, content: &found })?;
            writeln!(out)?;
        } else {
            writeln!(out, "{} records, the values of {} checked", found.records, found.values)?;
            match found.complete {
                Some(true) => writeln!(out, "the run ended cleanly")?,
                Some(false) => writeln!(out, "the run did not end cleanly")?,
                None => {}
            }
            if found.sites > 0 {
                let called = found.sites - (found.unreached.len() as u64).min(found.sites);
                writeln!(out, "{called} of {} annotated functions were called", found.sites)?;
            }
            for site in &found.unreached {
                writeln!(out, "  never called: {}", printable(site))?;
            }
            for finding in &found.findings {
                writeln!(out, "wrong: {}", printable(finding))?;
            }
        }
        Ok(if found.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
    }
}
