//! `bitnet`: runs a BitNet b1.58 checkpoint.

mod capture;
mod force;
mod run;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs BitNet b1.58 checkpoints. A build with the feature `trace` can record every tensor on the way.
#[derive(Parser)]
#[command(name = "bitnet", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Generates the text after a prompt
    Run(run::Run),
}

fn main() -> ExitCode {
    let Cli { command: Command::Run(run) } = Cli::parse();
    match run.execute() {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has what it wanted: `bitnet run ... | head` is not a failure.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {}", with_reasons(&*error));
            ExitCode::FAILURE
        }
    }
}

/// The message, then its reasons, down to the system's.
fn with_reasons(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(error) = reason {
        text.push_str(": ");
        text.push_str(&error.to_string());
        reason = error.source();
    }
    text
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
