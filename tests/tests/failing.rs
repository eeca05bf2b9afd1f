//! File systems that fail in the middle of a run: the model's numbers stay the same, each cause has one warning,
//! losses are counted, and what was written before stays readable.

use std::path::Path;
use std::process::{Command, Output};

use bitnet_trace::Trace;
use bitnet_trace_tests::{manifest, skip, succeed};

const FORMATS: [&str; 2] = ["files", "jsonl"];

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn run(directory: &Path, format: &str, steps: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.args(steps).env("BITNET_TRACE_DIR", directory).env("BITNET_TRACE_FORMAT", format);
    succeed(&mut command)
}

fn warnings(output: &Output) -> String {
    assert_eq!(String::from_utf8_lossy(&output.stdout), "sum 4\n", "the model's numbers");
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[test]
fn a_directory_that_vanishes() {
    for format in FORMATS {
        let dir = directory();
        let traces = dir.path().join("traces");
        let remove = format!("remove {}", traces.display());
        let said = warnings(&run(&traces, format, &["traced 2", &remove, "traced 5", "sum"]));
        assert!(!traces.exists());
        // There is one warning when it happens, and the losses are printed at the end, because there is no run.json.
        assert_eq!(said.matches("the model goes on").count(), 1, "{format}: {said}");
        assert!(said.contains("lost in ") && said.contains("6 x cannot"), "{format}: {said}");
    }
}

#[test]
fn no_file_descriptors_left() {
    let dir = directory();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(env!("CARGO_BIN_EXE_scenario"));
    command.args(["traced 2", "hog", "traced 3", "sum", "release", "traced 1"]).env("BITNET_TRACE_DIR", dir.path());
    let said = warnings(&succeed(&mut command));
    assert_eq!(said.lines().count(), 1, "{said}");
    let run = manifest(dir.path());
    assert_eq!((run["records"].as_u64(), run["lost"].as_u64()), (Some(3), Some(4)), "{run}");
    assert_eq!(Trace::open(dir.path()).expect("the rest").records().len(), 3);
}

/// Runs in a mount namespace of its own, on a small file system in memory; `None` if the system does not let this
/// user create one.
fn on_small_disk(format: &str, steps: &[&str], then: &str) -> Option<Output> {
    let possible = Command::new("unshare").args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skip("REQUIRE_MOUNTS", "this user may not create mount namespaces here");
        return None;
    }
    let script = format!("mount -t tmpfs -o size=64k none /mnt && \"$0\" \"$@\" && {then}");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_scenario")]).args(steps);
    command.env("BITNET_TRACE_DIR", "/mnt/traces").env("BITNET_TRACE_FORMAT", format);
    Some(succeed(&mut command))
}

#[test]
fn a_full_disk() {
    for format in FORMATS {
        let dir = directory();
        // Records fill the disk; afterwards its files are copied out and read.
        let copy = format!("cp -r /mnt/traces/. {}", dir.path().display());
        let Some(output) = on_small_disk(format, &["traced 200", "sum"], &copy) else { return };
        let said = warnings(&output);
        assert_eq!(said.matches("the model goes on").count(), 1, "{format}: {said}");
        let trace = Trace::open(dir.path()).expect("what fitted");
        let kept = trace.records().len();
        assert!(kept > 10 && kept < 200 && trace.problems().is_empty(), "{format}: {kept} {:?}", trace.problems());
        // run.json could not be brought up to date either: the losses are printed instead.
        assert!(said.contains(&format!("{} x cannot", 201 - kept)), "{format}: {kept} kept, {said}");
    }
}

#[test]
fn a_disk_that_is_full_for_a_while() {
    for format in FORMATS {
        let dir = directory();
        let copy = format!("cp -r /mnt/traces/. {}", dir.path().display());
        let fill = "sh cat /dev/zero > /mnt/fill 2>/dev/null || true";
        let steps = ["traced 2", fill, "traced 30", "sh rm /mnt/fill", "traced 2", "sum"];
        let Some(output) = on_small_disk(format, &steps, &copy) else { return };
        let _ = warnings(&output);
        let trace = Trace::open(dir.path()).expect("the rest");
        let run = manifest(dir.path());
        let (kept, lost) = (run["records"].as_u64().expect("a count"), run["lost"].as_u64().expect("a count"));
        assert_eq!((kept + lost, trace.records().len() as u64), (35, kept), "{format}: {run}");
        assert!(lost > 0 && trace.problems().is_empty(), "{format}: {run} {:?}", trace.problems());
    }
}

#[test]
fn a_file_system_that_turns_read_only() {
    let dir = directory();
    // The same directory is used again, through a read-only mount.
    let copy = format!("umount /mnt/traces && cp -r /mnt/traces/. {}", dir.path().display());
    let turn = "sh mount --bind /mnt/traces /mnt/traces && mount -o remount,ro,bind /mnt/traces";
    let steps = ["traced 2", turn, "traced 3", "sum"];
    let Some(output) = on_small_disk("files", &steps, &copy) else { return };
    let said = warnings(&output);
    assert_eq!(said.matches("the model goes on").count(), 1, "{said}");
    assert!(said.contains("4 x cannot create"), "{said}");
    let run = manifest(dir.path());
    assert_eq!(
        (Trace::open(dir.path()).expect("the rest").records().len(), run["complete"].as_bool()),
        (2, Some(false))
    );
}
