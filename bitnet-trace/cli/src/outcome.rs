//! What the subcommands share: the result type, the exit codes, and what goes to standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use bitnet_trace_core::report::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// Output of `--json` with the version of its format, which comes first.
#[derive(Serialize)]
pub(crate) struct WithSchema<'a, T> {
    pub(crate) schema: &'static str,
    #[serde(flatten)]
    pub(crate) content: &'a T,
}

/// The result of a subcommand: its exit code, or the error that ended it.
pub(crate) type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// Exit code if something differs, or a trace is damaged.
pub(crate) const DIFFERS: u8 = 1;
/// Exit code for wrong usage, input that cannot be read, or nothing to compare.
pub(crate) const FAILED: u8 = 2;

/// A progress bar on standard error. It is hidden unless standard error is a terminal.
pub(crate) fn progress(what: &'static str) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr_with_hz(4) } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(0), target).with_message(what);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// Prints the problems of reading a trace to standard error. They do not end the command: what was read is still shown.
pub(crate) fn warn_of<'a>(problems: impl IntoIterator<Item = &'a bitnet_trace_core::Error>) {
    for problem in problems {
        let _ = writeln!(io::stderr(), "warning: {}", printable(&problem.full()));
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::WithSchema;

    #[derive(Serialize)]
    struct Content {
        records: usize,
    }

    #[test]
    fn the_schema_is_the_first_field() {
        let json =
            serde_json::to_string(&WithSchema { schema: "bitnet-trace/verify/1", content: &Content { records: 3 } });
        assert_eq!(json.expect("JSON"), r#"{"schema":"bitnet-trace/verify/1","records":3}"#);
    }
}
