//! `bitnet-trace completions SHELL`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::Cli;
use crate::outcome::Outcome;

/// Prints completions for a shell
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell they are for
    shell: Shell,
}

impl Completions {
    pub(crate) fn execute(&self) -> Outcome {
        // Not to standard output at once: clap_complete panics where a reader has gone away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "bitnet-trace", &mut script);
        io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
