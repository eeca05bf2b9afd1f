//! The code that the tests in `tests/` share.

pub mod golden;
pub mod package;
pub mod synthetic;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::task::{Context, Poll, Waker};

use bitnet_trace::TraceRecord;

/// The `.trace` files of a directory by file name, without the extension.
///
/// # Panics
///
/// If the directory cannot be read or a file is not a record.
#[must_use]
pub fn records(directory: &Path) -> Vec<(String, TraceRecord)> {
    let mut records: Vec<_> = std::fs::read_dir(directory)
        .expect("the trace directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "trace"))
        .map(|path| {
            let json = std::fs::read(&path).expect("a trace file");
            let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (stem, serde_json::from_slice(&json).expect("a record"))
        })
        .collect();
    records.sort_by(|a, b| a.0.cmp(&b.0));
    records
}

/// The names of [`records`].
#[must_use]
pub fn names(directory: &Path) -> Vec<String> {
    records(directory).into_iter().map(|(stem, _)| stem).collect()
}

/// `run.json` of a directory.
///
/// # Panics
///
/// If it is missing or not JSON.
#[must_use]
pub fn manifest(directory: &Path) -> serde_json::Value {
    let json = std::fs::read(directory.join("run.json")).expect("run.json");
    serde_json::from_slice(&json).expect("JSON")
}

/// The top of the repository.
///
/// # Panics
///
/// Never: this crate lies in it.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a parent").to_owned()
}

/// The compiler whose messages and expansions are pinned by tests; other versions word them differently.
/// `.ci/run` reads it here.
pub const PINNED_COMPILER: &str = "rustc 1.95.0";

/// Whether the compiler in use is the pinned one; if not, prints that `what` is skipped.
///
/// # Panics
///
/// If the compiler does not start, or is another one although `REQUIRE_RUSTC_TEXTS=1` is set.
#[must_use]
pub fn is_pinned_compiler(what: &str) -> bool {
    let version = succeed(Command::new("rustc").arg("--version").current_dir(repository())).stdout;
    let version = String::from_utf8_lossy(&version);
    let pinned = version.strip_prefix(PINNED_COMPILER).is_some_and(|rest| rest.starts_with([' ', '\n']));
    if !pinned {
        skip("REQUIRE_RUSTC_TEXTS", &format!("{what}: written for {PINNED_COMPILER}, this is {}", version.trim()));
    }
    pinned
}

/// Prints why a test does not run, directly on standard error: the test harness hides what a passing test
/// prints.
///
/// # Panics
///
/// If the variable `required` is set to `1`: then no test may pass by not running.
pub fn skip(required: &str, reason: &str) {
    assert_ne!(std::env::var(required).as_deref(), Ok("1"), "{required}=1 is set, but: {reason}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason} ({required}=1 makes this a failure)");
}

/// Copies a program that will be run.
///
/// A process of its own makes the copy: otherwise a child that another thread starts meanwhile could hold the
/// copy open for writing, and the system refuses to run such a program (`ETXTBSY`).
///
/// # Panics
///
/// If it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    let _ = succeed(Command::new("cp").args([from, to]));
}

/// Runs a command to its end.
///
/// # Panics
///
/// If it does not start, or fails.
#[must_use]
pub fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Polls a future to its end on this thread, without waiting in between.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut task = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut task) {
            return value;
        }
    }
}
