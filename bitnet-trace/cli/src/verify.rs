//! `bitnet-trace verify TRACE`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::report::printable;
use bitnet_trace_core::tools::verify;
use clap::Args;

use crate::outcome::{DIFFERS, Outcome, progress};

/// Checks that a trace is whole and that its values are what was hashed
#[derive(Args)]
pub(crate) struct Verify {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    trace: PathBuf,
    /// Prints what was found as one JSON object
    #[arg(long)]
    json: bool,
}

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
            serde_json::to_writer_pretty(&mut out, &found)?;
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
