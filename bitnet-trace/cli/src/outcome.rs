//! What the subcommands share: how they end, and what they say on standard error.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use bitnet_trace_core::report::printable;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What a command comes to, or why it could not.
pub(crate) type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

/// Something differs, or is wrong in a trace.
pub(crate) const DIFFERS: u8 = 1;
/// Wrong usage, unreadable input, nothing to compare.
pub(crate) const FAILED: u8 = 2;

/// How far long work has come: on a terminal, and only there.
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

/// Problems of reading, on standard error: what was read is shown all the same.
pub(crate) fn warn_of<'a>(problems: impl IntoIterator<Item = &'a bitnet_trace_core::Error>) {
    for problem in problems {
        let _ = writeln!(io::stderr(), "warning: {}", printable(&problem.full()));
    }
}
