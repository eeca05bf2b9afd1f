//! `bitnet`: runs a BitNet b1.58 checkpoint.

mod bench;
mod capture;
mod compute;
mod force;
mod inspect;
mod interrupt;
mod output;
mod run;
mod synth;

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
    /// Measures how fast a checkpoint loads and runs
    Bench(bench::Bench),
    /// Shows what is in a checkpoint: configuration, tensors, sizes, metadata. Exit code 1 if something is wrong with it
    ///
    /// Exit code 0 means that a directory or a GGUF file can be run. A safetensors file is a part of a checkpoint: 0
    /// means that it is whole, not that there is a model that it belongs to.
    Inspect(inspect::Arguments),
    /// Writes a random checkpoint of a published format and shape
    Synth(synth::Arguments),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(run) => run.execute(),
        Command::Bench(bench) => bench.execute().map(|()| ExitCode::SUCCESS),
        Command::Inspect(arguments) => arguments.execute(),
        Command::Synth(arguments) => arguments.execute(),
    };
    match result {
        Ok(code) => code,
        // The reader has what it wanted: `bitnet run ... | head` is not a failure.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            // Every other error says what was being done.
            let written = if error.is::<io::Error>() { "cannot write to standard output: " } else { "" };
            let _ = writeln!(io::stderr(), "error: {written}{}", printable(&with_reasons(&*error)));
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

/// A text that may hold names from a file, with what would move the cursor or colour the terminal made visible.
fn printable(text: &str) -> String {
    let shown = |c: char| c == '\n' || !c.is_control();
    text.chars().flat_map(|c| if shown(c) { vec![c] } else { c.escape_default().collect() }).collect()
}
