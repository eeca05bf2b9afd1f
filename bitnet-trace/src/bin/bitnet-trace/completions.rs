//! `bitnet-trace completions SHELL`

use std::io;
use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::{Cli, Outcome};

/// Prints completions for a shell
#[derive(Args)]
pub(crate) struct Completions {
    /// The shell they are for
    shell: Shell,
}

impl Completions {
    #[allow(clippy::unnecessary_wraps)] // as every command
    pub(crate) fn execute(&self) -> Outcome {
        clap_complete::generate(self.shell, &mut Cli::command(), "bitnet-trace", &mut io::stdout());
        Ok(ExitCode::SUCCESS)
    }
}
