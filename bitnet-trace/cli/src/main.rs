//! The command `bitnet-trace`: annotates a model's source, finds the first tensor where two runs of the model differ,
//! and looks into traces.
//!
//! Each subcommand has a file of its own, which holds its arguments, its `--help` text and what it does. `outcome`
//! holds what they share: the result type, the exit codes, warnings and the progress bar. `slice` and `table` serve
//! one subcommand each; `sweep` is a folder. The work is done by `bitnet_trace_core` and `bitnet_trace_annotate`; the command only parses
//! arguments and prints.
//!
//! Exit codes: 0 for success, 1 if something differs or a trace is damaged, 2 for wrong usage, input that cannot be
//! read, or nothing to compare.

mod completions;
mod convert;
mod diff;
mod init;
mod ls;
mod outcome;
mod report;
mod show;
mod slice;
mod sweep;
mod table;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use bitnet_trace_core::report::printable;
use clap::{CommandFactory, Parser, Subcommand};

use outcome::FAILED;

/// Finds the first tensor where two runs of a model differ, and looks into traces
///
/// A trace is what a run recorded: a directory with one record for each tensor, written by a program that is built
/// with bitnet-trace and run with the variable `BITNET_TRACE_DIR`.
#[derive(Parser)]
#[command(name = "bitnet-trace", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Example:
  BITNET_TRACE_DIR=before cargo run --release
  (change the program)
  BITNET_TRACE_DIR=after cargo run --release
  bitnet-trace diff before after

Exit codes:
  0  success
  1  something differs, or a trace is damaged
  2  wrong usage, input that cannot be read, or nothing to compare

`bitnet-trace COMMAND --help` says more about each command.";

#[derive(Subcommand)]
enum Command {
    Init(init::Init),
    Diff(diff::Diff),
    Report(report::Report),
    Sweep(sweep::Sweep),
    Ls(ls::Ls),
    Show(show::Show),
    Verify(verify::Verify),
    Convert(convert::Convert),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Init(init) => init.execute(),
        Command::Diff(diff) => diff.execute(),
        Command::Report(report) => report.execute(),
        Command::Sweep(sweep) => sweep.execute(),
        Command::Ls(ls) => ls.execute(),
        Command::Show(show) => show.execute(),
        Command::Verify(verify) => verify.execute(),
        Command::Convert(convert) => convert.execute(),
        Command::Completions(completions) => completions.execute(&mut Cli::command()),
    };
    match outcome {
        Ok(code) => code,
        // The reader stopped early because it has all it wants: `bitnet-trace ls ... | head` has not failed.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            let message = with_reasons(&*error);
            // A message may have several lines. Each is escaped by itself, so that the line breaks stay.
            let lines: Vec<_> = message.lines().map(printable).collect();
            let _ = writeln!(io::stderr(), "error: {}", lines.join("\n"));
            ExitCode::from(FAILED)
        }
    }
}

/// The message of an error, followed by the messages of its sources.
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
