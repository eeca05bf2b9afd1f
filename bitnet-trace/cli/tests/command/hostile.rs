//! Traces that nobody recorded, made to mislead; readers that go away.

use std::fs;
use std::path::Path;
use std::process::Command;

use bitnet_trace::Trace;

use super::{Traces, said};

/// A trace of records written by hand, a line each.
fn by_hand(directory: &Path, lines: &[String]) -> String {
    fs::create_dir_all(directory.join("values")).expect("a directory");
    let path = directory.join("trace.jsonl");
    fs::write(&path, lines.join("\n")).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

fn line(name: &str, rms: &str, rest: &str) -> String {
    format!(r#"{{"name":"{name}","shape":[1],"dtype":"F32","blake3":"00","rms":{rms},"num_elements":1{rest}}}"#)
}

#[test]
fn ls_by_rms_puts_first_what_has_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rms = |i: usize| if i * 7 % 5 < 2 { "null".to_owned() } else { (i * 7919 % 101).to_string() };
    let trace = by_hand(dir.path(), &(0..200).map(|i| line("x", &rms(i), "")).collect::<Vec<_>>());
    let (code, out, err) = said(&["ls", &trace, "--sort", "rms", "--json"]);
    let found: Vec<Option<f64>> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["rms"].as_f64())
        .collect();
    assert_eq!((code, found.len()), (Some(0), 200), "{err}");
    let (without, with) = found.split_at(80);
    assert!(without.iter().all(Option::is_none), "{found:?}");
    assert!(with.iter().all(Option::is_some) && with.is_sorted_by(|a, b| a >= b), "{found:?}");
}

#[test]
fn a_trace_of_which_nothing_can_be_read_is_an_error() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trace = by_hand(dir.path(), &["{".to_owned()]);
    let (code, _, err) = said(&["ls", &trace]);
    assert!(code == Some(2) && err.contains("line 1"), "{err}");
}

#[test]
fn names_cannot_command_the_terminal_or_forge_a_line() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let evil = r"\u001b[31mred\nmatch: no divergence";
    let rest = format!(r#","order":7,"stage":"{evil}","values":"{evil}","site":"{evil}""#);
    let trace = by_hand(dir.path(), &[line(evil, "1", &rest)]);
    let other = by_hand(&dir.path().join("other"), &[line(evil, "2", &rest).replace("\"00\"", "\"01\"")]);
    for arguments in [
        &["ls", &trace][..],
        &["show", &trace, "@7"],
        &["show", &trace, "\u{1b}[0m"],
        &["verify", &trace],
        &["diff", &trace, &other, "--all"],
    ] {
        let (_, out, err) = said(arguments);
        for text in [out, err] {
            assert!(!text.contains('\u{1b}'), "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("match")), "{text:?}");
        }
    }
}

#[test]
fn verify_survives_the_largest_numbers() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let trace = by_hand(dir.path(), &[line("x", "1", &format!(r#","order":{}"#, u64::MAX))]);
    let (code, out, err) = said(&["verify", &trace]);
    assert!(code == Some(1) && out.contains(&format!("{} records are missing", u64::MAX)), "{out}{err}");
    for place in [dir.path().to_owned(), dir.path().join("p7")] {
        by_hand(&place, &[line("x", "1", "")]);
        fs::write(place.join("run.json"), format!(r#"{{"complete":true,"sites":{}}}"#, u64::MAX)).expect("written");
    }
    let (code, _, err) = said(&["verify", dir.path().to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{err}");
}

#[cfg(unix)]
#[test]
fn convert_takes_values_from_inside_the_trace_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let secret = dir.path().join("secret");
    fs::write(&secret, "not of the trace").expect("written");
    let source = dir.path().join("source");
    for (values, reason) in [
        ("values/link", "leads out of"),
        ("values/pipe", "not a regular file"),
        ("../secret", "not a path inside"),
        ("values/huge", "header is damaged"),
        ("trace.jsonl", "trace.jsonl"),
    ] {
        let trace = by_hand(&source, &[line("x", "1", &format!(r#","values":"{values}""#))]);
        let file = source.join(values);
        match values {
            "values/link" => std::os::unix::fs::symlink(&secret, file).expect("a link"),
            "values/pipe" => assert!(Command::new("mkfifo").arg(file).status().expect("mkfifo").success()),
            "values/huge" => fs::write(file, vec![0; 100_000]).expect("written"),
            _ => {}
        }
        let destination = dir.path().join(values.replace('/', "_"));
        let (code, _, err) = said(&["convert", &trace, destination.to_str().expect("UTF-8"), "--format", "jsonl"]);
        assert!(code == Some(2) && err.contains(reason), "{values}: {err}");
        assert!(!destination.join("run.json").exists() && !destination.join("values/link").exists(), "{values}");
    }
}

#[test]
fn convert_keeps_names_that_are_alike() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let names = ["a/b", "a_b", "A_B", "a_b~2", "a_b", "../../x", "run.json", "/x"];
    let records: Vec<_> =
        (0..).zip(names).map(|(order, name)| line(name, "1", &format!(r#","order":{order}"#))).collect();
    let trace = by_hand(&dir.path().join("lines"), &records);
    let files = dir.path().join("files");
    assert_eq!(said(&["convert", &trace, files.to_str().expect("UTF-8"), "--format", "files"]).0, Some(0));
    let (a, b) = (Trace::open(&trace).expect("readable"), Trace::open(&files).expect("readable"));
    assert_eq!((a.records(), a.records().len()), (b.records(), names.len()));
    assert_eq!(fs::read_dir(dir.path()).expect("readable").count(), 2, "nothing beside the two traces");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let traces = Traces::new();
    let trace = traces.path("reference");
    for arguments in [&["completions", "bash"][..], &["ls", &trace], &["ls", &trace, "--json"], &["show", &trace, "@1"]]
    {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-trace"));
        let output = command.args(arguments).stdout(writer).output().expect("it starts");
        assert!(output.status.success() && output.stderr.is_empty(), "{arguments:?}: {output:?}");
    }
}
