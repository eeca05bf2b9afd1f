//! Threads, processes, and processes that are killed.
//!
//! `STARTS=50x2000,5x20000 cargo test --workspace --features trace --test concurrency at_once_into -- --nocapture`
//! starts processes into that many older runs of that many records; by default into a few smaller ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bitnet_trace::Trace;
use bitnet_trace_tests::{copy_program, manifest, skip, succeed};

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
            // The number of calls differs, so that the kill comes at different moments.
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
        // The second process has a directory of its own; or it came after the first had ended, and moved
        // the first run aside.
        let mut places = vec![dir.path().to_owned()];
        places.extend(ids.map(|id| dir.path().join(format!("p{id}"))));
        places.push(dir.path().join(".previous"));
        places.retain(|place| place.join("run.json").exists());
        assert_eq!(places.len(), 2, "{format}: {places:?}");
        for place in places {
            let run = manifest(&place);
            assert_eq!((run["records"].as_u64(), run["lost"].as_u64()), (Some(8 * EACH as u64), Some(0)), "{run}");
            // This reads the directory alone, not the processes in it.
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
            // The process is kept alive until all have begun.
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

/// Starts four processes that make their first record at the same moment, and waits until all have made it.
/// Each makes `EACH` records before and after.
fn start_at_once(directory: &Path, format: &str) {
    const EACH: usize = 10;
    let start = |rank: usize| {
        let mut command = scenario(directory, format, "wait");
        let many = [0, 1].map(|part| format!("dump-many {EACH} r{rank}-{part}"));
        command.args([many[0].as_str(), "wait", &many[1]]).env("RANK", rank.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let mut children: Vec<_> = (0..4).map(start).collect();
    for _ in 0..2 {
        for child in &mut children {
            // Read byte by byte: the bytes after the line belong to the next turn.
            let mut said = [0; 6];
            child.stdout.as_mut().expect("piped").read_exact(&mut said).expect("a line");
            assert_eq!(&said, b"ready\n");
        }
        for child in &mut children {
            child.stdin.as_mut().expect("piped").write_all(b"\n").expect("it reads");
        }
    }
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
    let trace = Trace::open(directory).expect("a trace");
    assert!(trace.problems().is_empty(), "{:?}", trace.problems());
    let found: Vec<_> = trace.records().iter().map(|record| record.name.clone()).collect();
    let expected =
        (0..4).flat_map(|rank| (0..2 * EACH).map(move |number| format!("r{rank}-{}/{}", number / EACH, number % EACH)));
    // The processes are in the order of their ranks, because every one has a rank.
    assert_eq!(found, expected.collect::<Vec<_>>(), "{format}");
}

#[test]
fn processes_that_start_at_once_into_an_older_run_lose_nothing() {
    let starts = std::env::var("STARTS").unwrap_or_else(|_| "6x300,2x2000".to_owned());
    for start in starts.split(',') {
        let (rounds, records) = start.split_once('x').expect("rounds x records");
        let (rounds, records): (usize, usize) = (rounds.parse().expect("rounds"), records.parse().expect("records"));
        let begun = Instant::now();
        for round in 0..rounds {
            let dir = tempfile::tempdir().expect("a temporary directory");
            // Every second process wrote lines.
            let mut older = scenario(dir.path(), FORMATS[round % 2], &format!("dump-many {records} older"));
            assert!(older.status().expect("it starts").success());
            start_at_once(dir.path(), FORMATS[round / 2 % 2]);
            let previous = Trace::open(dir.path().join(".previous")).expect("the older run");
            assert_eq!((previous.records().len(), previous.problems().len()), (records, 0), "round {round}");
        }
        println!("{rounds} times 4 processes at once into {records} records of an older run: {:.1?}", begun.elapsed());
    }
}

/// A library that, loaded before the C library, makes it say that a file system has no locks.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn without_locks(directory: &Path) -> std::path::PathBuf {
    let (source, library) = (directory.join("no_locks.rs"), directory.join("no_locks.so"));
    let code = r#"
        unsafe extern "C" { fn __errno_location() -> *mut i32; }
        #[unsafe(no_mangle)]
        pub extern "C" fn flock(_: i32, _: i32) -> i32 {
            unsafe { *__errno_location() = 37 }; // ENOLCK
            -1
        }
    "#;
    fs::write(&source, code).expect("written");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "--crate-type", "cdylib", "-o"]).arg(&library).arg(&source);
    let _ = succeed(&mut rustc);
    library
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn a_file_system_without_locks() {
    let built = tempfile::tempdir().expect("a temporary directory");
    let library = without_locks(built.path());
    let dir = tempfile::tempdir().expect("a temporary directory");
    let command = |steps: &[&str]| {
        let mut command = scenario(dir.path(), "files", steps[0]);
        command.args(&steps[1..]).env("LD_PRELOAD", &library);
        command
    };
    let mut first =
        command(&["dump a", "wait"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut said = [0; 6];
    first.stdout.as_mut().expect("piped").read_exact(&mut said).expect("a line");
    // The process with the id in `run.json` is alive.
    let output = succeed(&mut command(&["dump b"]));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"), "{output:?}");
    first.kill().expect("killed");
    first.wait().expect("dead");
    let trace = Trace::open(dir.path()).expect("both processes");
    assert_eq!(trace.records().iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    // The process with the id in `run.json` is not alive.
    let output = succeed(&mut command(&["dump c"]));
    assert!(output.stderr.is_empty(), "{output:?}");
    assert_eq!(bitnet_trace_tests::names(dir.path()), ["c"]);
    assert_eq!(bitnet_trace_tests::names(&dir.path().join(".previous")), ["a"]);
    let left = fs::read_dir(dir.path()).expect("the directory").flatten().map(|entry| entry.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".claim")));
}

#[test]
fn ranks_are_paired_whichever_came_first() {
    // In the second trace rank 1 comes first and has the directory itself.
    let traces = [[0, 1, 2], [1, 2, 0]].map(|ranks| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let children: Vec<_> = ranks
            .into_iter()
            .map(|rank: usize| {
                let mut command = scenario(dir.path(), "files", "dump-rank x");
                command.arg("wait").env("RANK", rank.to_string()).stderr(Stdio::null());
                let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
                let mut said = [0; 6];
                child.stdout.as_mut().expect("piped").read_exact(&mut said).expect("a line");
                child
            })
            .collect();
        for mut child in children {
            drop(child.stdin.take());
            assert!(child.wait().expect("it ends").success());
        }
        dir
    });
    let [a, b] = traces.each_ref().map(tempfile::TempDir::path);
    assert_eq!((manifest(a)["rank"].as_u64(), manifest(b)["rank"].as_u64()), (Some(0), Some(1)));
    let options = bitnet_trace::compare::DiffOptions::default();
    bitnet_trace::compare::diff_paths(a, b, &options, &mut |_, _| ()).expect("comparable").assert_match();
    let [left, right] = [a, b].map(|path| Trace::open(path).expect("a trace"));
    bitnet_trace::diff(&left, &right, &bitnet_trace::Tolerance::default()).assert_match();
}

/// Two processes with the same id, as in two containers or on two machines.
#[cfg(target_os = "linux")]
#[test]
fn processes_of_one_number_get_a_directory_each() {
    let possible = Command::new("unshare").args(["-rpf", "true"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skip("REQUIRE_MOUNTS", "this user may not create process namespaces here");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let children: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let mut command = Command::new("unshare");
            command.args(["-rpf", env!("CARGO_BIN_EXE_scenario"), &format!("dump {name}"), "wait"]);
            command.env("BITNET_TRACE_DIR", dir.path()).stderr(Stdio::null());
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
            let mut said = [0; 6];
            child.stdout.as_mut().expect("piped").read_exact(&mut said).expect("a line");
            child
        })
        .collect();
    let trace = Trace::open(dir.path()).expect("a trace");
    assert_eq!(trace.records().iter().map(|record| record.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert!(dir.path().join("p1-2/run.json").exists());
    for mut child in children {
        drop(child.stdin.take());
        assert!(child.wait().expect("it ends").success());
    }
}

/// Pipes, directories, dangling links and links to somebody's file under the names of our locks.
#[cfg(unix)]
#[test]
fn what_is_no_lock_is_neither_waited_for_nor_touched() {
    for (name, prefix) in [(".lock", "run-"), (".claim.lock", "p")] {
        for put in ["mkfifo", "mkdir", "ln -s /nowhere", "ln -s ../target"] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let traces = dir.path().join("traces");
            fs::write(dir.path().join("target"), "").expect("written");
            fs::create_dir(&traces).expect("a directory");
            let put_it = format!("{put} {}", traces.join(name).display());
            let _ = succeed(Command::new("sh").args(["-c", &put_it]));
            for number in 1..=2 {
                let said = succeed(&mut scenario(&traces, "files", "traced 1")).stderr;
                let said = String::from_utf8(said).expect("UTF-8");
                assert!(said.contains(&format!("/{prefix}")) && !said.contains("off"), "{put} {name}: {said}");
                let own = fs::read_dir(&traces).expect("the directory").flatten();
                let own = own.filter(|own| own.file_name().to_string_lossy().starts_with(prefix));
                assert_eq!(own.count(), number, "{put} {name}");
            }
            assert!(traces.join(name).symlink_metadata().is_ok_and(|there| !there.is_file()), "{put} {name}");
        }
    }
}

/// A directory that two users share. Root starts the second process as another user: no mode keeps root from a file.
#[cfg(target_os = "linux")]
#[test]
fn locks_that_may_only_be_read_or_not_even_that() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("allowed");
    for (name, allowed) in [(".lock", 0o444), (".lock", 0o000), (".claim.lock", 0o444), (".claim.lock", 0o000)] {
        for ends in [false, true] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (traces, program) = (dir.path().join("traces"), dir.path().join("scenario"));
            copy_program(Path::new(env!("CARGO_BIN_EXE_scenario")), &program);
            fs::create_dir(&traces).expect("a directory");
            mode(dir.path(), 0o777);
            mode(&traces, 0o777);
            let steps: &[&str] = if ends { &["traced 1"] } else { &["traced 1", "wait"] };
            let mut first = Command::new(&program);
            first.args(steps).env("BITNET_TRACE_DIR", &traces).stdin(Stdio::piped()).stdout(Stdio::piped());
            let first = if ends {
                let _ = succeed(&mut first);
                None
            } else {
                let mut first = first.spawn().expect("it starts");
                let mut said = [0; 6];
                first.stdout.as_mut().expect("piped").read_exact(&mut said).expect("a line");
                Some(first)
            };
            if name == ".claim.lock" {
                fs::write(traces.join(name), "").expect("written");
            }
            mode(&traces.join(name), allowed);
            let mut second = Command::new(&program);
            second.arg("traced 2").env("BITNET_TRACE_DIR", &traces);
            if dir.path().metadata().expect("there").uid() == 0 {
                second.uid(65534).gid(65534);
            }
            let id = second.stderr(Stdio::piped()).spawn().expect("it starts");
            let own = format!("p{}", id.id());
            let said = String::from_utf8(id.wait_with_output().expect("it ends").stderr).expect("UTF-8");
            let when = format!("{name} {allowed:o}, first {}: {said}", if ends { "ended" } else { "lives" });
            // Only a lock that can be tested shows that the directory is free.
            let moves = ends && allowed == 0o444;
            let place = if moves { traces.clone() } else { traces.join(own) };
            assert_eq!(manifest(&place)["records"], 2, "{when}");
            assert_eq!(said.is_empty(), moves, "{when}");
            assert!(allowed != 0o000 || said.contains("no permission to open"), "{when}");
            if let Some(mut first) = first {
                drop(first.stdin.take());
                assert!(first.wait().expect("it ends").success());
                assert_eq!(manifest(&traces)["records"], 1, "{when}");
            }
        }
    }
}
