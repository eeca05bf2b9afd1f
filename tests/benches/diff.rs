//! Compares two traces of 100,000 records each, `jsonl`: records a second, memory a record, and in the same run
//! the time of a Python script that loads both with `json` and compares hashes.
//!
//! `cargo bench -p bitnet-trace-tests --bench diff`

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bitnet_trace::Trace;
use bitnet_trace::compare::{DiffOptions, diff_paths};
use bitnet_trace_tests::{repository, succeed, synthetic};

/// The number of records on each side.
const RECORDS: u32 = 100_000;
/// The number of runs of each kind, taken in turn.
const RUNS: usize = 7;

/// The most memory that this process had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn compare(reference: &Path, trace: &Path, expected: usize) {
    let comparison = diff_paths(reference, trace, &DiffOptions::default(), &mut |_, _| ()).expect("readable");
    assert_eq!((comparison.compared(), comparison.first), (RECORDS as usize, Some(expected)));
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (reference, trace) = (dir.path().join("reference"), dir.path().join("trace"));
    synthetic::write(&reference, RECORDS as usize, usize::MAX);
    synthetic::write(&trace, RECORDS as usize, 90_000);
    let before = peak();
    compare(&reference, &trace, 90_000);
    let memory = (peak() - before) / u64::from(2 * RECORDS);
    let script = repository().join("tests/benches/diff.py");
    let python = || {
        let mut command = Command::new("python3");
        let output = succeed(command.arg(&script).args([&reference, &trace]));
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1000 of 100000 differ");
    };
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..RUNS {
        ours.push(timed(|| compare(&reference, &trace, 90_000)));
        theirs.push(timed(python));
    }
    let read = timed(|| assert_eq!(Trace::open(&reference).expect("readable").records().len(), RECORDS as usize));
    let (ours, theirs) = (median(ours), median(theirs));
    let rate = |records: u32, time: Duration| f64::from(records) / time.as_secs_f64();
    println!("diff of two traces of {RECORDS} records, jsonl, 1,000 of them diverged; medians of {RUNS}");
    println!("diff                {ours:>8.0?}  {:>9.0} records/s, both sides counted", rate(2 * RECORDS, ours));
    println!("Python              {theirs:>8.0?}  {:.1} times as long", theirs.as_secs_f64() / ours.as_secs_f64());
    println!("peak memory         {memory} bytes a record");
    println!("Trace::open         {read:>8.0?}  {:>9.0} records/s", rate(RECORDS, read));
}
