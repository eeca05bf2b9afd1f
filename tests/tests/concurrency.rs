//! Threads, processes, and processes that are killed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

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
