//! `bitnet-trace report REFERENCE TRACE -o FILE`

use std::io::Write;
use std::path::PathBuf;

use bitnet_trace::{Html, manifest_of};
use clap::Args;

use crate::Outcome;
use crate::diff::{Sides, exit_code};

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
        let manifests = [manifest_of(&self.sides.reference), manifest_of(&self.sides.trace)];
        let html =
            Html { comparison: &comparison, names: [&reference, &trace], manifests: [&manifests[0], &manifests[1]] };
        let failed = |error| format!("cannot write {}: {error}", self.output.display());
        std::fs::write(&self.output, html.to_string()).map_err(failed)?;
        writeln!(anstream::stderr(), "{}", self.output.display())?;
        Ok(exit_code(&comparison))
    }
}
