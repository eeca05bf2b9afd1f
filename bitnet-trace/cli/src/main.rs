//! `bitnet-trace`: looks at traces, and finds the first tensor where two of them differ.
//!
//! Exit status: 0 all is well, 1 something differs or is wrong in a trace, 2 wrong usage, unreadable
//! input, or nothing to compare.

mod completions;
mod convert;
mod diff;
mod ls;
mod outcome;
mod report;
mod show;
mod slice;
mod table;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use bitnet_trace_core::report::printable;
use clap::{Parser, Subcommand};

use outcome::FAILED;

/// Looks at traces, and finds the first tensor where two of them differ
#[derive(Parser)]
#[command(name = "bitnet-trace", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Finds the first divergence of two traces
    Diff(diff::Diff),
    /// Writes the comparison of two traces as one HTML file
    Report(report::Report),
    /// Lists the records of a trace
    Ls(ls::Ls),
    /// Shows one record: its fields, and its values where they were captured
    Show(show::Show),
    /// Checks that a trace is whole and that its values are what was hashed
    Verify(verify::Verify),
    /// Writes a trace in another format
    Convert(convert::Convert),
    /// Prints completions for a shell
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Diff(diff) => diff.execute(),
        Command::Report(report) => report.execute(),
        Command::Ls(ls) => ls.execute(),
        Command::Show(show) => show.execute(),
        Command::Verify(verify) => verify.execute(),
        Command::Convert(convert) => convert.execute(),
        Command::Completions(completions) => completions.execute(),
    };
    match outcome {
        Ok(code) => code,
        // Whoever reads has what they wanted: `bitnet-trace ls ... | head` is no failure.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            let message = with_reasons(&*error);
            // Messages about TOML point at the place, on lines of their own.
            let lines: Vec<_> = message.lines().map(printable).collect();
            let _ = writeln!(io::stderr(), "error: {}", lines.join("\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// The message, then why, down to the system's reason.
fn with_reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut reason = error.source();
    while let Some(error) = reason {
        text.push_str(": ");
        text.push_str(&error.to_string());
        reason = error.source();
    }
    text
}

fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        || error
            .downcast_ref::<serde_json::Error>()
            .is_some_and(|error| error.io_error_kind() == Some(io::ErrorKind::BrokenPipe))
}
