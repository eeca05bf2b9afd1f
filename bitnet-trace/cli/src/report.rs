//! `bitnet-trace report REFERENCE TRACE -o FILE`

use std::io::Write;
use std::path::PathBuf;

use bitnet_trace_core::report::Html;
use bitnet_trace_core::trace::Manifest;
use clap::Args;

use crate::diff::{Sides, exit_code};
use crate::outcome::Outcome;

/// Writes the comparison of two traces as one HTML file
#[derive(Args)]
pub(crate) struct Report {
    #[command(flatten)]
    sides: Sides,
    /// The file to write; an existing one is replaced
    #[arg(short, long, value_name = "FILE", default_value = "diff.html")]
    output: PathBuf,
}

impl Report {
    pub(crate) fn execute(&self) -> Outcome {
        let comparison = self.sides.compare()?;
        let [reference, trace] = self.sides.names();
        // What is damaged takes nothing of the comparison with it.
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
