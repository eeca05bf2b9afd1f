//! Keeps candle from spreading single operations over threads.
//!
//! The trainer splits every batch between two threads of its own. Candle would additionally split
//! each operation over workers that spin while they wait: with both processors busy that makes a
//! step two to five times slower. Candle takes its number of threads from the environment alone,
//! and only another process can be given another environment without unsafe code.

use std::env;
use std::process::{Command, ExitCode};

/// The variable from which candle, and rayon below it, read their number of threads.
const VARIABLE: &str = "RAYON_NUM_THREADS";

/// Runs this program again with the same arguments and candle's threads off, and returns how it
/// ended; `None` if the number of threads is already set, or if that process cannot be started.
///
/// The number of threads changes how long training takes, never its result.
pub(crate) fn run_with_candle_threads_off() -> Option<ExitCode> {
    if env::var_os(VARIABLE).is_some() {
        return None;
    }
    let status =
        Command::new(env::current_exe().ok()?).args(env::args_os().skip(1)).env(VARIABLE, "1").status().ok()?;
    Some(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
