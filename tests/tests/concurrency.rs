//! Threads, processes, and processes that are killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bitnet_trace::Trace;
use bitnet_trace_tests::manifest;

/// How many processes are killed for each format.
const KILLS: usize = 20;

const FORMATS: [&str; 2] = ["files", "jsonl"];

fn scenario(directory: &Path, format: &str, step: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.arg(step).env("BITNET_TRACE_DIR", directory).env("BITNET_TRACE_FORMAT", format);
    command
}

#[test]
fn records_whose_call_came_back_survive_a_kill_and_none_is_torn() {
    for format in FORMATS {
        for kill in 0..KILLS {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let mut command = scenario(dir.path(), format, "stream");
            let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
            let stdout = BufReader::new(child.stdout.take().expect("piped"));
            // Different numbers of calls, so that the kill falls into different moments.
            let returned = stdout.lines().nth(30 + 7 * kill).expect("a line").expect("UTF-8");
            child.kill().expect("killed");
            child.wait().expect("dead");
            let trace = Trace::open(dir.path()).expect("a trace");
            let orders: Vec<_> = trace.records().iter().filter_map(|record| record.order).collect();
            assert!(orders.len() >= returned.parse().expect("a number"), "{format}: {returned} returned, {orders:?}");
            assert!(orders.iter().copied().eq(0..orders.len() as u64), "{format}: {orders:?}");
            // The one that was being written may be there in part, and is never taken for a record.
            assert!(trace.problems().len() <= 1, "{format}: {:?}", trace.problems());
        }
    }
}

#[test]
fn eight_threads_and_two_processes_lose_and_mix_nothing() {
    const EACH: usize = 200;
    for format in FORMATS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let step = format!("threads {EACH}");
        let children =
            [0; 2].map(|_| scenario(dir.path(), format, &step).stderr(Stdio::null()).spawn().expect("it starts"));
        let ids = children.each_ref().map(std::process::Child::id);
        for mut child in children {
            assert!(child.wait().expect("it ends").success());
        }
        // Whoever came second has a directory of its own; or it came after the first had ended, and
        // moved it aside.
        let mut places = vec![dir.path().to_owned()];
        places.extend(ids.map(|id| dir.path().join(format!("p{id}"))));
        places.push(dir.path().join(".previous"));
        places.retain(|place| place.join("run.json").exists());
        assert_eq!(places.len(), 2, "{format}: {places:?}");
        for place in places {
            let run = manifest(&place);
            assert_eq!((run["records"].as_u64(), run["lost"].as_u64()), (Some(8 * EACH as u64), Some(0)), "{run}");
            // The directory alone, not the processes in it.
            let trace = if format == "jsonl" { Trace::open(place.join("trace.jsonl")) } else { Trace::open(&place) };
            let trace = trace.expect("a trace");
            let id = run["process"].as_u64().expect("a process");
            let own = trace.records().len() == 8 * EACH || trace.records().len() == 16 * EACH;
            assert!(
                own && trace.problems().is_empty(),
                "{format} {id}: {} {:?}",
                trace.records().len(),
                trace.problems()
            );
            let mut by_thread: BTreeMap<_, Vec<_>> = BTreeMap::new();
            let mut orders = Vec::new();
            for record in trace.records().iter().take(8 * EACH) {
                by_thread.entry(record.layer_idx).or_default().push((record.order, record.call));
                orders.extend(record.order);
            }
            assert!(orders.iter().copied().eq(0..8 * EACH as u64), "{format}: every place in the order once");
            assert_eq!(by_thread.len(), 8);
            for calls in by_thread.values() {
                assert!(calls.iter().map(|(_, call)| *call).eq(0..EACH), "{format}: a thread's calls in their order");
            }
        }
    }
}

#[test]
fn of_two_calls_the_later_has_the_larger_number() {
    for format in FORMATS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert!(scenario(dir.path(), format, "together 200").status().expect("it ends").success());
        let trace = Trace::open(dir.path()).expect("a trace");
        assert!(trace.records().iter().map(|record| record.call).eq(0..1600), "{format}");
    }
}

#[test]
fn processes_that_start_at_once_all_find_a_place_that_is_read() {
    for round in 0..20 {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let start = || {
            let mut command = scenario(dir.path(), FORMATS[round % 2], "traced 3");
            // Kept alive until all have begun.
            command.arg("wait").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().expect("it starts")
        };
        let children: Vec<_> = (0..4).map(|_| start()).collect();
        let deadline = Instant::now() + Duration::from_secs(60);
        while Trace::open(dir.path()).map_or(0, |trace| trace.records().len()) < 12 {
            assert!(Instant::now() < deadline, "round {round}: records are missing");
            std::thread::sleep(Duration::from_millis(2));
        }
        for mut child in children {
            drop(child.stdin.take());
            assert!(child.wait().expect("it ends").success());
        }
    }
}
