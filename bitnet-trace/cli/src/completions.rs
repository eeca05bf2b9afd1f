//! `bitnet-trace completions SHELL`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::outcome::Outcome;

/// Prints a completion script for a shell
#[derive(Args)]
#[command(
    after_help = "Example:\n  bitnet-trace completions bash > ~/.local/share/bash-completion/completions/bitnet-trace"
)]
pub(crate) struct Completions {
    /// The shell that the script is for
    shell: Shell,
}

impl Completions {
    /// `program` is the command line that the script completes.
    pub(crate) fn execute(&self, program: &mut Command) -> Outcome {
        // The script is written to memory first: clap_complete panics if it cannot write to standard output.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, program, "bitnet-trace", &mut script);
        io::stdout().write_all(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
