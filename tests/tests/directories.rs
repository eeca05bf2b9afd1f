//! Which directory a run writes into, and what happens to what is there: nobody else's files are touched, and
//! nothing of a run is overwritten.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bitnet_trace::Trace;
use bitnet_trace_tests::{manifest, names, records, succeed};

fn command(directory: &Path, steps: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.args(steps).env("BITNET_TRACE_DIR", directory);
    command
}

/// Runs to the end and returns what it printed on standard error.
fn run(directory: &Path, steps: &[&str]) -> String {
    String::from_utf8(succeed(&mut command(directory, steps)).stderr).expect("UTF-8")
}

/// Runs up to its `wait`.
fn start(directory: &Path, steps: &[&str]) -> Child {
    let mut child = command(directory, steps)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the scenario starts");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    child
}

/// Lets a waiting process continue to its end.
fn finish(mut child: Child) {
    child.stdin.as_mut().expect("piped").write_all(b"\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn repeats_are_counted_and_nothing_is_overwritten() {
    let dir = directory();
    run(dir.path(), &["traced 3", "dump double"]);
    assert_eq!(names(dir.path()), ["double", "double#1", "double#2", "double~2"]);
    let found = records(dir.path());
    let calls: Vec<_> = found.iter().map(|(_, record)| (record.name.as_str(), record.call, record.order)).collect();
    assert_eq!(
        calls,
        [("double", 0, Some(0)), ("double#1", 1, Some(1)), ("double#2", 2, Some(2)), ("double", 0, Some(3))]
    );
}

#[test]
fn names_that_sanitize_alike_get_files_of_their_own() {
    let dir = directory();
    run(dir.path(), &["dump a/b_c", "dump a_b/c"]);
    assert_eq!(names(dir.path()), ["a_b_c", "a_b_c~2"]);
}

#[test]
fn run_json_tells_a_clean_end() {
    for (steps, complete) in [
        (&["traced 2"][..], true),
        (&["traced 2", "exit 0"], true),
        (&["traced 2", "exit 3"], true),
        (&["traced 2", "panic"], cfg!(not(all(target_os = "linux", target_env = "gnu")))),
    ] {
        let dir = directory();
        let _ = command(dir.path(), steps).output().expect("it starts");
        let run = manifest(dir.path());
        assert_eq!((run["records"].as_u64(), run["lost"].as_u64()), (Some(2), Some(0)), "{steps:?}");
        assert_eq!(run["complete"], complete, "{steps:?}");
        assert_eq!(run["finished"].is_string(), complete, "{steps:?}");
    }
}

#[test]
fn a_killed_run_is_not_complete_and_keeps_its_records() {
    let dir = directory();
    let mut child = start(dir.path(), &["traced 5", "wait"]);
    child.kill().expect("killed");
    child.wait().expect("dead");
    assert_eq!(records(dir.path()).len(), 5);
    assert_eq!(manifest(dir.path())["complete"], false);
}

#[test]
fn an_older_run_is_moved_aside_and_one_is_kept() {
    let dir = directory();
    run(dir.path(), &["dump first"]);
    fs::write(dir.path().join("notes.txt"), "mine").expect("a file of the user's");
    run(dir.path(), &["dump second"]);
    assert_eq!(names(dir.path()), ["second"]);
    assert_eq!(names(&dir.path().join(".previous")), ["first"]);
    assert!(dir.path().join(".previous/run.json").exists());
    assert!(dir.path().join("notes.txt").exists());
    run(dir.path(), &["dump third"]);
    assert_eq!(names(dir.path()), ["third"]);
    assert_eq!(names(&dir.path().join(".previous")), ["second"]);
}

#[test]
fn a_move_that_was_cut_short_is_finished() {
    let dir = directory();
    run(dir.path(), &["dump a", "dump b"]);
    // The state of a process that was killed after the first of the files.
    let moving = dir.path().join(".previous.moving");
    fs::create_dir(&moving).expect("created");
    fs::rename(dir.path().join("a.trace"), moving.join("a.trace")).expect("moved");
    run(dir.path(), &["dump c"]);
    assert_eq!(names(dir.path()), ["c"]);
    assert_eq!(names(&dir.path().join(".previous")), ["a", "b"]);
    assert!(!moving.exists());
}

#[test]
fn records_of_something_else_are_not_touched() {
    let dir = directory();
    fs::write(dir.path().join("x.trace"), "of another tool").expect("a foreign file");
    let said = run(dir.path(), &["dump x"]);
    assert_eq!(fs::read_to_string(dir.path().join("x.trace")).expect("still there"), "of another tool");
    let own: Vec<_> = entries(dir.path()).into_iter().filter(|name| name != "x.trace").collect();
    assert!(own.len() == 1 && own[0].starts_with("run-"), "{own:?}");
    assert!(said.contains(&own[0]), "it says where it records: {said}");
    assert_eq!(names(&dir.path().join(&own[0])), ["x"]);
}

#[test]
fn a_second_live_process_gets_a_directory_of_its_own() {
    let dir = directory();
    let first = start(dir.path(), &["dump a", "wait"]);
    let second = start(dir.path(), &["dump b", "wait"]);
    let own = format!("p{}", second.id());
    assert_eq!(names(dir.path()), ["a"]);
    assert_eq!(names(&dir.path().join(&own)), ["b"]);
    let trace = Trace::open(dir.path()).expect("both processes");
    let found: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
    assert_eq!(found, ["a", "b"]);
    // The first process is gone, the second still records: a third must not take that run for an old one.
    finish(first);
    let said = run(dir.path(), &["dump c"]);
    assert!(said.contains("in use"), "{said}");
    assert_eq!(names(dir.path()), ["a"]);
    finish(second);
    // All processes are gone: the whole run is moved, with all its processes.
    run(dir.path(), &["dump d"]);
    assert_eq!(names(dir.path()), ["d"]);
    assert_eq!(names(&dir.path().join(".previous").join(&own)), ["b"]);
}

#[test]
fn a_directory_that_was_deleted_is_not_made_again_at_exit() {
    let dir = directory();
    let traces = dir.path().join("traces");
    run(&traces, &["traced 1", &format!("remove {}", traces.display())]);
    assert!(!traces.exists());
}

#[test]
fn dump_trace_makes_a_deleted_directory_again_and_goes_on_counting() {
    let dir = directory();
    let traces = dir.path().join("traces");
    run(&traces, &["dump x", &format!("remove {}", traces.display()), "dump x"]);
    let found = records(&traces);
    assert_eq!((found.len(), found[0].1.call, found[0].1.order), (1, 1, Some(1)));
}

#[test]
fn every_writer_of_a_process_shares_one_order() {
    let dir = directory();
    let session = format!("session {}", dir.path().display());
    let output = succeed(&mut command(dir.path(), &["traced 1", "dump x", &session, "tap y", &session]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 records\n1 records\n");
    let trace = Trace::open(dir.path()).expect("a trace");
    let found: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
    assert_eq!(found, ["double", "x", "double#1", "y", "double#2"]);
    assert_eq!(manifest(dir.path())["records"], 5);
}

#[test]
fn two_live_sessions_on_one_directory_are_refused() {
    let dir = directory();
    let mut command = command(dir.path(), &[&format!("sessions {}", dir.path().join("s").display())]);
    let output = succeed(command.env_remove("BITNET_TRACE_DIR"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("already has a live session"), "{output:?}");
}

#[test]
fn what_cannot_be_recorded_is_counted_with_one_warning() {
    let dir = directory();
    let said = run(dir.path(), &["unrecordable", "unrecordable", "traced 1"]);
    assert_eq!(said.matches("warning").count(), 1, "{said}");
    let run = manifest(dir.path());
    assert_eq!((run["records"].as_u64(), run["lost"].as_u64()), (Some(1), Some(2)));
    assert_eq!(run["losses"][0]["count"], 2);
    assert!(run["losses"][0]["cause"].as_str().is_some_and(|cause| cause.contains("F4")), "{run}");
}

#[test]
fn a_directory_that_cannot_be_made_turns_tracing_off_with_one_warning() {
    let dir = directory();
    let file = dir.path().join("file");
    fs::write(&file, "").expect("a file");
    let said = run(&file.join("traces"), &["traced 3"]);
    assert_eq!(said.matches("warning").count(), 1, "{said}");
    // dump_trace returns the error to its caller instead.
    let output = command(&file.join("traces"), &["dump x"]).output().expect("it starts");
    assert!(
        !output.status.success() && String::from_utf8_lossy(&output.stderr).contains("cannot create"),
        "{output:?}"
    );
}

#[test]
fn a_damaged_file_is_named_and_the_rest_read() {
    let dir = directory();
    run(dir.path(), &["traced 2"]);
    fs::write(dir.path().join("double.trace"), "{\"name\": \"dou").expect("cut short");
    let trace = Trace::open(dir.path()).expect("the rest");
    assert_eq!(trace.records().len(), 1);
    assert!(trace.problems()[0].to_string().contains("double.trace"), "{:?}", trace.problems());
}

fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_the_user_keeps_in_the_directory_stays() {
    let dir = directory();
    for (directory, file) in [("p1", "x"), ("values", "notes.txt"), ("sub.trace", "x")] {
        fs::create_dir(dir.path().join(directory)).expect("a directory");
        fs::write(dir.path().join(directory).join(file), "mine").expect("a file");
    }
    for step in ["dump a", "dump b", "dump c"] {
        run(dir.path(), &[step]);
        for file in ["p1/x", "values/notes.txt", "sub.trace/x"] {
            assert_eq!(fs::read_to_string(dir.path().join(file)).expect(file), "mine");
        }
    }
    assert_eq!(names(&dir.path().join(".previous")), ["b"]);
}

#[test]
fn a_previous_that_is_no_run_is_not_removed() {
    let dir = directory();
    run(dir.path(), &["dump a"]);
    fs::create_dir(dir.path().join(".previous")).expect("a directory");
    fs::write(dir.path().join(".previous/x"), "mine").expect("a file");
    let said = run(dir.path(), &["traced 1"]);
    assert!(said.contains(".previous") && said.contains("does not hold a run of bitnet-trace"), "{said}");
    assert!(dir.path().join(".previous/x").exists());
}

#[test]
fn a_move_that_was_cut_short_after_its_last_file_is_finished() {
    let dir = directory();
    run(dir.path(), &["dump a"]);
    run(dir.path(), &["dump b"]);
    // The state of a process that was killed before the last rename, when the older run was removed already.
    let moving = dir.path().join(".previous.moving");
    fs::remove_dir_all(dir.path().join(".previous")).expect("removed");
    fs::create_dir(&moving).expect("created");
    for file in ["b.trace", "run.json"] {
        fs::rename(dir.path().join(file), moving.join(file)).expect("moved");
    }
    run(dir.path(), &["dump c"]);
    assert_eq!(names(&dir.path().join(".previous")), ["b"]);
    run(dir.path(), &["dump d"]);
    assert_eq!(names(dir.path()), ["d"]);
    assert_eq!(names(&dir.path().join(".previous")), ["c"]);
    assert!(!moving.exists());
}

#[test]
fn a_directory_taken_over_by_another_process_is_left_to_it() {
    let dir = directory();
    let traces = dir.path().join("traces");
    let first = start(&traces, &["traced 1", "wait", "traced 2"]);
    fs::remove_dir_all(&traces).expect("removed under it");
    let second = start(&traces, &["dump other", "wait"]);
    let id = second.id();
    finish(first);
    assert_eq!(names(&traces), ["other"]);
    let here = manifest(&traces);
    assert_eq!((here["process"].as_u64(), here["complete"].as_bool()), (Some(u64::from(id)), Some(false)));
    finish(second);
    assert_eq!(manifest(&traces)["records"], 1);
}

#[test]
fn the_first_line_goes_into_no_directory_that_another_process_has_taken_over() {
    let dir = directory();
    let traces = dir.path().join("traces");
    let mut command = command(&traces, &["annotate a b", "wait", "traced 2"]);
    command.env("BITNET_TRACE_FORMAT", "jsonl").stderr(Stdio::null());
    let mut first = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(first.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
    fs::remove_dir_all(&traces).expect("removed under it");
    let second = start(&traces, &["dump other", "wait"]);
    finish(first);
    assert!(!traces.join("trace.jsonl").exists());
    finish(second);
    assert_eq!(Trace::open(&traces).expect("a trace").records().len(), 1);
}

#[test]
fn a_deleted_run_json_is_written_again_where_it_was() {
    let dir = directory();
    let delete = format!("sh rm {}", dir.path().join("run.json").display());
    let said = run(dir.path(), &["dump x", &delete, "dump y"]);
    assert_eq!((names(dir.path()), said.as_str()), (vec!["x".to_owned(), "y".to_owned()], ""));
    assert_eq!(manifest(dir.path())["records"], 2);
}

#[test]
fn a_session_that_finished_does_not_complete_a_run_that_goes_on() {
    let dir = directory();
    let session = format!("session {}", dir.path().display());
    let mut command = command(dir.path(), &[&session, "traced 2", "stream"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.take(3).last().expect("a line").expect("UTF-8"), "2");
    child.kill().expect("killed");
    child.wait().expect("dead");
    assert_eq!(manifest(dir.path())["complete"], false);
}

#[test]
fn any_number_of_names_may_be_alike() {
    const MANY: usize = 10_100;
    let dir = directory();
    run(dir.path(), &[&format!("alike {MANY}")]);
    assert_eq!(manifest(dir.path())["records"], MANY);
    assert_eq!(names(dir.path()).len(), MANY);
}

#[cfg(unix)]
#[test]
fn a_reader_is_not_held_up_by_what_it_finds() {
    let dir = directory();
    run(dir.path(), &["traced 2"]);
    // A pipe that nobody writes, a directory in place of the lines, a process directory that cannot be read, and
    // a file whose lines are not records.
    let _ = succeed(Command::new("mkfifo").arg(dir.path().join("pipe.trace")));
    fs::create_dir(dir.path().join("trace.jsonl")).expect("a directory");
    fs::create_dir(dir.path().join("p7")).expect("a directory");
    fs::write(dir.path().join("p7/trace.jsonl"), "x\n".repeat(100_000)).expect("written");
    let trace = Trace::open(dir.path()).expect("the rest");
    assert_eq!(trace.records().len(), 2);
    assert_eq!(trace.problems().len(), 1000);
    let said = trace.problems().iter().take(3).map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(said.contains("pipe.trace") && said.contains("not a regular file") && said.contains("line 1:"), "{said}");
}

#[test]
fn annotations_and_losses_survive_a_kill() {
    for format in ["files", "jsonl"] {
        let dir = directory();
        let steps = ["traced 5", "unrecordable", "annotate model tiny", "unrecordable", "unrecordable", "wait"];
        let mut command = command(dir.path(), &steps);
        command.env("BITNET_TRACE_FORMAT", format).stderr(Stdio::null());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("a line");
        child.kill().expect("killed");
        child.wait().expect("dead");
        let run = manifest(dir.path());
        assert_eq!(run["annotations"]["model"], "tiny", "{format}: {run}");
        assert_eq!((run["lost"].as_u64(), run["losses"][0]["count"].as_u64()), (Some(3), Some(3)), "{format}: {run}");
        assert_eq!((run["records"].as_u64(), run["complete"].as_bool()), (Some(5), Some(false)), "{format}: {run}");
        assert_eq!(Trace::open(dir.path()).expect("a trace").records().len(), 5, "{format}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn sessions_that_finished_hold_no_file_open() {
    let dir = directory();
    let mut command = command(dir.path(), &[&format!("sessions-many 2000 {}", dir.path().display())]);
    let output = succeed(command.env_remove("BITNET_TRACE_DIR"));
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let (before, after) = said.trim().split_once(' ').expect("two numbers");
    assert_eq!(before, after);
    for number in [0, 1, 1998, 1999] {
        let run = manifest(&dir.path().join(number.to_string()));
        assert_eq!((run["records"].as_u64(), run["complete"].as_bool()), (Some(1), Some(true)), "{number}");
    }
}

#[test]
fn a_process_that_comes_back_goes_on_with_its_run() {
    for format in ["files", "jsonl"] {
        let dir = directory();
        let session = format!("session {}", dir.path().display());
        let mut command = command(dir.path(), &[&session, &session, "wait", &session]);
        // `session` prints a line of its own before `wait` prints one.
        command.env_remove("BITNET_TRACE_DIR").env("BITNET_TRACE_FORMAT", format);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
        // There is no session and no lock, but the process lives, and its run is not over.
        let said = run(dir.path(), &["dump other"]);
        assert!(said.contains("in use"), "{format}: {said}");
        finish(child);
        let trace = Trace::open(dir.path()).expect("both processes");
        let found: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
        assert_eq!(found, ["double", "double#1", "double#2", "other"], "{format}");
        // The run is over now.
        run(dir.path(), &["dump later"]);
        assert_eq!(names(dir.path()), ["later"]);
    }
}

#[test]
fn a_run_that_was_moved_or_copied_is_not_in_use() {
    let dir = directory();
    let (traces, copy) = (dir.path().join("traces"), dir.path().join("copy"));
    let session = format!("session {}", traces.display());
    let mut command = command(dir.path(), &[&session, "wait"]);
    command.env_remove("BITNET_TRACE_DIR");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
    let _ = succeed(Command::new("cp").arg("-r").arg(&traces).arg(&copy));
    assert_eq!(run(&copy, &["dump x"]), "");
    assert_eq!((names(&copy), names(&copy.join(".previous"))), (vec!["x".to_owned()], vec!["double".to_owned()]));
    finish(child);
}

#[test]
fn a_function_whose_condition_was_false_was_called() {
    let unreached = |steps: &[&str]| {
        let dir = directory();
        run(dir.path(), steps);
        let unreached = manifest(dir.path())["unreached"].as_array().expect("a list").clone();
        unreached.iter().any(|site| site["stage"] == "seldom")
    };
    assert!(unreached(&["traced 1"]));
    assert!(!unreached(&["traced 1", "seldom"]));
}

#[cfg(unix)]
#[test]
fn the_directory_that_a_process_was_led_to_is_of_its_run() {
    let dir = directory();
    let (traces, link) = (dir.path().join("traces"), dir.path().join("link"));
    let first = start(&traces, &["dump a", "wait"]);
    let second = start(&traces, &["dump b", "wait", &format!("session {}", link.display()), "dump c"]);
    let own = traces.join(format!("p{}", second.id()));
    std::os::unix::fs::symlink(&own, &link).expect("a link");
    finish(second);
    assert_eq!(names(&own), ["b", "c", "double"]);
    assert_eq!(manifest(&own)["records"], 3);
    assert!(entries(&own).iter().all(|name| !name.starts_with('p')), "{:?}", entries(&own));
    finish(first);
}
