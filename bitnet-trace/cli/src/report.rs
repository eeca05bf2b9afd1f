//! `bitnet-trace report REFERENCE TRACE -o FILE`

use std::io::Write;
use std::path::PathBuf;

use bitnet_trace_core::report::Html;
use bitnet_trace_core::trace::Manifest;
use clap::Args;

use crate::diff::{CompareArgs, exit_code};
use crate::outcome::Outcome;

/// Compares two traces and writes the comparison as one HTML file
///
/// The file holds a map of layers and stages for each step, the growth of the error, the details of each pair and the
/// `run.json` of both runs. It needs no network. The comparison is that of `diff`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Report {
    #[command(flatten)]
    sides: CompareArgs,
    /// The file to write; an existing one is replaced
    #[arg(short, long, value_name = "FILE", default_value = "diff.html")]
    output: PathBuf,
}

const AFTER_HELP: &str = "\
Example:
  bitnet-trace report before after --output diff.html

The exit codes are those of `bitnet-trace diff`.";

impl Report {
    pub(crate) fn execute(&self) -> Outcome {
        let comparison = self.sides.compare()?;
        let [reference, trace] = self.sides.names();
        // A damaged run.json is left out: the comparison does not depend on it.
        let manifests = [&self.sides.reference, &self.sides.trace].map(|path| Manifest::open(path).ok().flatten());
        let html = Html::new(&comparison)
            .with_names([&reference, &trace])
            .with_manifests([manifests[0].as_ref(), manifests[1].as_ref()]);
        let failed = |error| format!("cannot write {}: {error}", self.output.display());
        std::fs::write(&self.output, html.to_string()).map_err(failed)?;
        writeln!(anstream::stderr(), "{}", self.output.display())?;
        Ok(exit_code(&comparison))
    }
}
