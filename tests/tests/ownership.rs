//! Somebody else's files in a trace directory stay where they are, byte for byte, however many runs come. The
//! files of an older run are moved and removed as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bitnet_trace::Trace;
use bitnet_trace_tests::{copy_program, manifest, succeed};

fn run(directory: &Path, format: &str, steps: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.args(steps).env("BITNET_TRACE_DIR", directory).env("BITNET_TRACE_FORMAT", format);
    let output = succeed(command.env("BITNET_TRACE_CAPTURE", "values"));
    String::from_utf8(output.stderr).expect("UTF-8")
}

/// Every file below, with its bytes.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.append(&mut self::files(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).expect("a file"));
        }
    }
    files
}

fn write(directory: &Path, file: &str, contents: impl AsRef<[u8]>) {
    let path = directory.join(file);
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, contents).expect("written");
}

fn assert_kept(foreign: &BTreeMap<PathBuf, Vec<u8>>, directory: &Path, when: &str) {
    let now = files(directory);
    for (path, bytes) in foreign {
        let found = now.get(path).unwrap_or_else(|| panic!("{when}: {} is gone", path.display()));
        assert!(found == bytes, "{when}: {} was changed", path.display());
    }
}

/// A record as another program with this library would write it, with its order.
fn record(name: &str) -> String {
    format!(
        r#"{{"name":"{name}","shape":[1],"dtype":"F32","blake3":"{}","rms":1.0,"num_elements":1,"order":0}}"#,
        "0".repeat(64)
    )
}

const FORMATS: [&str; 2] = ["files", "jsonl"];

#[test]
fn a_directory_full_of_foreign_files() {
    for format in FORMATS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write(dir.path(), "run.json", r#"{"_wandb": {"runtime": 3}, "schema": 2}"#);
        write(dir.path(), "double.trace", r#"{"traceEvents": []}"#);
        write(dir.path(), "golden.trace", record("double"));
        write(dir.path(), "trace.jsonl", "{\"event\": 1}\n");
        write(dir.path(), "values/double.safetensors", "weights");
        write(dir.path(), "values/mine.safetensors", "weights");
        write(dir.path(), "p123/run.json", "{}");
        write(dir.path(), "p123/x.trace", record("x"));
        write(dir.path(), ".previous/run.json", "{}");
        write(dir.path(), ".previous/x.trace", record("x"));
        let foreign = files(dir.path());
        for number in 1..=3 {
            let said = run(dir.path(), format, &["traced 2"]);
            assert!(said.contains("not of bitnet-trace") && said.contains("run-"), "{said}");
            assert_kept(&foreign, dir.path(), &format!("{format}, run {number}"));
        }
        let own: Vec<_> = fs::read_dir(dir.path())
            .expect("the directory")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("run-")))
            .collect();
        assert_eq!(own.len(), 3, "{own:?}");
        for own in &own {
            assert_eq!(Trace::open(own).expect("a trace").records().len(), 2);
        }
        // Nothing else was added.
        assert!(
            files(dir.path())
                .keys()
                .all(|path| foreign.contains_key(path) || own.iter().any(|own| path.starts_with(own)))
        );
    }
}

#[test]
fn each_foreign_file_alone_makes_room_for_none_of_ours() {
    for (file, contents) in [
        ("run.json", "{}".to_owned()),
        ("run.json", r#"{"schema": "mlflow/1"}"#.to_owned()),
        ("run.json", "not JSON".to_owned()),
        ("x.trace", record("x")),
        ("trace.jsonl", record("x")),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write(dir.path(), file, &contents);
        let foreign = files(dir.path());
        for format in ["files", "jsonl", "files"] {
            let said = run(dir.path(), format, &["traced 1"]);
            assert!(said.contains("run-"), "{file}: {said}");
            assert_kept(&foreign, dir.path(), file);
        }
    }
}

#[test]
fn foreign_files_beside_a_run_of_ours() {
    for format in FORMATS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // A user's values from before the first run, which are not in the way of a run.
        write(dir.path(), "values/double.safetensors", "weights");
        write(dir.path(), "p124/notes.txt", "mine");
        let mut foreign = files(dir.path());
        assert_eq!(run(dir.path(), format, &["traced 2"]), "");
        write(dir.path(), "notes.trace", r#"{"name": "notes"}"#);
        write(dir.path(), "golden.trace", record("double"));
        // A file name that the run uses too, with a record of the earlier tracer.
        write(dir.path(), "logits.trace", record("logits").replace(r#","order":0"#, ""));
        write(dir.path(), "values/mine.safetensors", "weights");
        write(dir.path(), "p123/run.json", "{}");
        write(dir.path(), "p123/x.trace", record("x"));
        write(dir.path(), "p125/run.json", r#"{"schema": "bitnet-trace/1", "process": 125}"#);
        write(dir.path(), "p125/double.trace", record("double"));
        write(dir.path(), "p125/mine.txt", "mine");
        if format == "files" {
            write(dir.path(), "trace.jsonl", record("double"));
        }
        let ours = files(&dir.path().join("p125"));
        for (path, bytes) in files(dir.path()) {
            let name = path.strip_prefix(dir.path()).expect("inside").to_string_lossy().into_owned();
            let is_foreign = ["notes", "golden", "logits", "mine", "p123"].iter().any(|part| name.contains(part))
                || format == "files" && name == "trace.jsonl";
            if is_foreign {
                foreign.insert(path, bytes);
            }
        }
        assert_eq!(ours.len(), 3);
        for number in 2..=4 {
            let said = run(dir.path(), "files", &[&format!("dump run{number}"), "traced 1"]);
            let when = format!("{format}, run {number}: {said}");
            assert_kept(&foreign, dir.path(), &when);
            let previous = dir.path().join(".previous");
            if number == 2 {
                // The previous run has such files too: they stay when it is removed.
                for file in ["keep.txt", "keep.trace", "values/keep.safetensors", "p9/keep.txt"] {
                    write(&previous, file, "{}");
                    foreign.insert(previous.join(file), b"{}".to_vec());
                }
            }
            if format == "jsonl" || number == 2 {
                let of_process = previous.join("p125/double.trace");
                assert_eq!(of_process.exists(), number == 2, "{when}");
            }
        }
        // A foreign `trace.jsonl` has the name that ours would have: then a subdirectory is used.
        if format == "jsonl" {
            let previous = dir.path().join(".previous");
            assert_eq!(manifest(&previous)["records"], 2);
            assert!(previous.join("run3.trace").exists() && !previous.join("run2.trace").exists());
            assert!(previous.join("values/run3.safetensors").exists());
            assert!(dir.path().join("run4.trace").exists() && !dir.path().join("run3.trace").exists());
            assert!(!dir.path().join(".previous.moving").exists());
        }
    }
}

#[test]
fn a_file_that_a_killed_run_began_goes_with_it() {
    for (file, torn) in [
        ("torn.trace", ""),
        ("torn.trace", "{\n  \"name\": \"torn\",\n  \"sha"),
        ("trace.jsonl", ""),
        ("trace.jsonl", "{\"name\":\"to"),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let format = if file == "trace.jsonl" { "jsonl" } else { "files" };
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
        // The process was killed after its `run.json`, before its first record was whole.
        let kill = format!("sh printf '%s' '{torn}' > {}; kill -9 $PPID", dir.path().join(file).display());
        command.args(["annotate a b", &kill]).env("BITNET_TRACE_DIR", dir.path()).env("BITNET_TRACE_FORMAT", format);
        assert!(!command.stderr(Stdio::null()).status().expect("it starts").success());
        assert_eq!(manifest(dir.path())["complete"], false);
        assert_eq!(run(dir.path(), format, &["traced 1"]), "", "{file} {torn:?}");
        let trace = Trace::open(dir.path()).expect("a trace");
        assert_eq!((trace.records().len(), trace.problems().len()), (1, 0), "{file} {torn:?}: {:?}", trace.problems());
    }
}

#[test]
fn a_foreign_run_json_that_comes_during_the_run_is_not_overwritten() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("run.json");
    let foreign = format!("sh echo '{{\"of\": \"another tool\"}}' > {}", path.display());
    let said = run(dir.path(), "files", &["traced 1", &foreign, "annotate a b", "unrecordable", "traced 1"]);
    assert_eq!(fs::read_to_string(&path).expect("there"), "{\"of\": \"another tool\"}\n");
    assert!(said.contains("another program wrote this file") && said.contains("lost in"), "{said}");
    assert_eq!(Trace::open(dir.path()).expect("a trace").records().len(), 2);
}

#[test]
fn lines_are_not_added_to_somebody_else_s_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("trace.jsonl");
    let foreign = format!("sh echo mine > {}", path.display());
    let session = format!("session {}", dir.path().display());
    // Somebody else's lines are there already when the run first writes lines.
    let said = run(dir.path(), "jsonl", &["annotate a b", &foreign, "traced 2"]);
    assert_eq!(fs::read_to_string(&path).expect("there"), "mine\n");
    assert!(said.contains("cannot create") && said.contains("exists"), "{said}");
    assert_eq!(manifest(dir.path())["lost"], 2);
    let said = run(dir.path(), "files", &[&session]);
    assert!(said.contains("run-"), "{said}");
}

/// A run in another directory, which must not be touched.
#[cfg(unix)]
fn elsewhere(format: &str) -> (tempfile::TempDir, BTreeMap<PathBuf, Vec<u8>>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(run(dir.path(), format, &["traced 2"]), "");
    let files = files(dir.path());
    assert!(files.len() > 3);
    (dir, files)
}

#[cfg(unix)]
#[test]
fn what_a_link_in_the_directory_leads_to_is_not_ours() {
    for format in FORMATS {
        for link in ["p123", ".previous", ".previous.moving"] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            assert_eq!(run(dir.path(), format, &["traced 1"]), "");
            let (other, others) = elsewhere(format);
            std::os::unix::fs::symlink(other.path(), dir.path().join(link)).expect("a link");
            for number in 1..=3 {
                let said = run(dir.path(), format, &["traced 1"]);
                assert_eq!(files(other.path()), others, "{format} {link}, run {number}: {said}");
                assert!(dir.path().join(link).is_symlink(), "{format} {link}, run {number}");
                assert!(link == "p123" || said.contains(link) && said.contains("run-"), "{format} {link}: {said}");
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn run_json_is_made_over_no_file_and_through_no_link() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("target");
    fs::write(&target, "mine").expect("written");
    let (linked, traces) = (dir.path().join("linked"), dir.path().join("traces"));
    fs::create_dir(&linked).expect("a directory");
    std::os::unix::fs::symlink(&target, linked.join(".run.json.new")).expect("a link");
    write(&traces, ".run.json.new", "mine");
    for directory in [&linked, &traces] {
        for _ in 0..2 {
            assert_eq!(run(directory, "files", &["traced 1"]), "");
        }
        assert_eq!(fs::read_to_string(directory.join(".run.json.new")).expect("still there"), "mine");
        assert!(!directory.join("run.json").is_symlink());
        assert_eq!(manifest(directory)["records"], 1);
    }
    assert_eq!(fs::read_to_string(&target).expect("still there"), "mine");
}

#[test]
fn a_run_json_that_a_killed_process_was_writing_goes_with_its_run() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    assert_eq!(run(dir.path(), "files", &["traced 1"]), "");
    let unfinished = format!(".run.json.{}.new", manifest(dir.path())["run"].as_str().expect("an id"));
    write(dir.path(), &unfinished, "{");
    assert_eq!(run(dir.path(), "files", &["traced 1"]), "");
    assert!(!dir.path().join(&unfinished).exists() && dir.path().join(".previous").join(&unfinished).exists());
}

#[cfg(unix)]
#[test]
fn what_cannot_be_read_is_not_ours() {
    use std::os::unix::fs::symlink;
    for format in FORMATS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(run(dir.path(), format, &["traced 1"]), "");
        fs::create_dir(dir.path().join("directory.trace")).expect("a directory");
        symlink("nowhere", dir.path().join("nowhere.trace")).expect("a link");
        symlink("circle.trace", dir.path().join("circle.trace")).expect("a link");
        for process in ["p1", "p2", "p3"] {
            fs::create_dir(dir.path().join(process)).expect("a directory");
        }
        fs::create_dir(dir.path().join("p1/.lock")).expect("a directory");
        symlink(".lock", dir.path().join("p2/.lock")).expect("a link");
        assert!(Command::new("mkfifo").arg(dir.path().join("p3/.lock")).status().expect("mkfifo").success());
        write(dir.path(), "p4", "a file");
        assert_eq!(run(dir.path(), format, &["traced 2"]), "");
        assert_eq!(manifest(dir.path())["records"], 2);
        assert_eq!(manifest(&dir.path().join(".previous"))["records"], 1);
    }
}

#[cfg(unix)]
#[test]
fn values_that_lead_elsewhere_are_neither_written_nor_removed() {
    for format in FORMATS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (traces, other) = (dir.path().join("traces"), dir.path().join("other"));
        write(&other, "double.safetensors", "weights");
        let others = files(&other);
        fs::create_dir(&traces).expect("a directory");
        std::os::unix::fs::symlink(&other, traces.join("values")).expect("a link");
        let said = run(&traces, format, &["traced 2"]);
        assert!(said.contains("values") && said.contains("not a directory"), "{format}: {said}");
        let here = manifest(&traces);
        assert_eq!((here["records"].as_u64(), here["lost"].as_u64()), (Some(2), Some(2)), "{format}: {here}");
        assert_eq!(files(&other), others, "{format}");
        // A run whose `values` was replaced later by files with the names in its records.
        fs::remove_file(traces.join("values")).expect("removed");
        assert_eq!(run(&traces, format, &["traced 1"]), "", "{format}");
        fs::rename(traces.join("values"), dir.path().join("away")).expect("moved");
        std::os::unix::fs::symlink(&other, traces.join("values")).expect("a link");
        run(&traces, format, &["traced 1"]);
        assert_eq!(files(&other), others, "{format}");
    }
}

#[cfg(unix)]
#[test]
fn lines_are_added_to_the_file_that_the_run_wrote_alone() {
    // Another file, a link or a pipe is in its place.
    for put in ["echo mine >", "ln -s \"$PWD/target\"", "ln -s /nowhere", "mkfifo"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        write(dir.path(), "target", "mine\n");
        // The second of the sessions writes lines.
        let (sessions, traces) = (format!("sessions-many 2 {}", dir.path().display()), dir.path().join("1"));
        let put = format!("sh cd {}; mv 1/trace.jsonl kept; {put} 1/trace.jsonl", dir.path().display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
        command.args([&sessions, &put, &sessions]).env_remove("BITNET_TRACE_DIR");
        let output = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("not the file that this run wrote"), "{put}: {said}");
        assert_eq!(manifest(&traces)["lost"], 1, "{put}: {said}");
        assert_eq!(fs::read_to_string(dir.path().join("target")).expect("there"), "mine\n", "{put}");
        if put.contains("echo") {
            assert_eq!(fs::read_to_string(traces.join("trace.jsonl")).expect("there"), "mine\n");
        }
    }
}

/// Somebody else's file that cannot be read, beside an older run.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_may_not_be_read_stops_nothing() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("allowed");
    for (format, file) in [("files", "mine.trace"), ("jsonl", "trace.jsonl")] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (traces, program) = (dir.path().join("traces"), dir.path().join("scenario"));
        copy_program(Path::new(env!("CARGO_BIN_EXE_scenario")), &program);
        fs::create_dir(&traces).expect("a directory");
        mode(dir.path(), 0o777);
        mode(&traces, 0o777);
        for number in 1..=2 {
            let mut command = Command::new(&program);
            command.arg("traced 1").env("BITNET_TRACE_DIR", &traces).env("BITNET_TRACE_FORMAT", format);
            if dir.path().metadata().expect("there").uid() == 0 {
                command.uid(65534).gid(65534);
            }
            let said = String::from_utf8(succeed(&mut command).stderr).expect("UTF-8");
            assert!(!said.contains("off"), "{format}, run {number}: {said}");
            assert_eq!(said.contains("run-"), (format, number) == ("jsonl", 2), "{format}, run {number}: {said}");
            if number == 1 {
                let _ = fs::remove_file(traces.join(file));
                write(&traces, file, "mine");
                mode(&traces.join(file), 0o000);
            }
        }
        assert!(traces.join(file).exists() && !traces.join(".previous").join(file).exists());
    }
}
