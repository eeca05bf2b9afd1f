//! Files that are damaged, foreign or wrong.

use std::fs;
use std::path::Path;

use bitnet_trace::compare::{Conclusion, Evidence, NameMap, Verdict};
use bitnet_trace::{Tolerance, Trace, TraceRecord, TraceSession, diff, tap};

use crate::{Directory, noise, paths, record, tensor};

#[test]
fn settings_that_are_wrong_are_named_by_line_and_column() {
    for (text, expected) in [
        (
            "[[rule]]\nrel_l3 = 1",
            "line 2, column 1: unknown key `rel_l3`, did you mean `rel_l2`? Expected one of: stage, layer",
        ),
        ("[[rule]]\nrel_l2 = \"x\"", "line 2, column 10"),
        ("[[rule]", "line 1, column"),
        ("\n[[rule]]\nrel_l2 = -1.0", "line 2, column 1: `rel_l2` is -1"),
        ("[[rule]]\nstage = \"x\"", "line 1, column 1: the rule has no limit, expected at least one of: rel_l2"),
        ("[[rule]]\nlayer = \"one\"\nrel_l2 = 1.0", "line 1, column 1: `layer`: \"one\" is not a number or a range"),
        ("[[rule]]\nlayer = \"3-1\"\nrel_l2 = 1.0", "ends before it begins"),
        ("[[rule]]\ncosine = 3.0", "from -1 to 1"),
    ] {
        let error = text.parse::<Tolerance>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    for (text, expected) in [
        ("[[map]]\nfrom = \"a\"", "line 1, column 1: expected either"),
        (
            "[[map]]\nfrom = \"a{x}\"\nto = \"b\"",
            "`from`: the pattern \"a{x}\" has \"{x}\", expected one of: `{layer}`",
        ),
        ("[[map]]\nfrom = \"\"\nto = \"b\"", "is empty"),
        ("[[map]]\nto = \"b\"", "line 1, column 1: missing key `from`"),
        ("[[map]]\nfrom = 3", "line 2, column 8"),
        ("[[map]]\nfrom = \"a\"\nfor = \"b\"", "line 3, column 1: unknown key `for`, did you mean `from`?"),
        (
            "[[map]]\nfrom = \"a\"\nslice = { dims = 1 }",
            "unknown key `dims`, did you mean `dim`? Expected one of: dim, start, end",
        ),
    ] {
        let error = text.parse::<NameMap>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(
        NameMap::preset("llama.cpp").is_some() && NameMap::preset("hf").is_some() && NameMap::preset("x").is_none()
    );
    let directory = Directory::new(&[("rules.toml", "rule = 3")]);
    let error = Tolerance::open(directory.path("rules.toml")).expect_err("no list").to_string();
    assert!(error.contains("rules.toml") && error.contains("line 1"), "{error}");
}

#[test]
fn input_that_is_bad_is_named_and_the_rest_is_read() {
    let deep = format!(r#"{{"name":{}"#, "[".repeat(1_000_000));
    let lines =
        [record("t0/a", ""), "not json".to_owned(), deep, record("t0/b", ""), "{\"name\":\"half".to_owned()].join("\n");
    let good = [record("t0/a", ""), record("t0/b", "")].join("\n");
    let directory = Directory::new(&[
        ("bad/trace.jsonl", &lines),
        ("bad/torn.trace", "{\"name\":"),
        ("good/trace.jsonl", &good),
        ("empty/readme.txt", "nothing"),
        ("later/run.json", r#"{"schema":"bitnet-trace/2"}"#),
        ("later/trace.jsonl", &good),
        ("garbage/trace.jsonl", "\0\0\0\n\u{1}\n"),
    ]);
    let comparison = paths(&directory.path("bad"), &directory.path("good")).expect("readable");
    // What could be read is equal; nobody knows what the rest was.
    assert_eq!((comparison.compared(), comparison.conclusion()), (2, Conclusion::NotAllRead));
    assert!(!comparison.matches() && comparison.to_string().contains("not everything could be read"), "{comparison}");
    let problems = comparison.problems.join("\n");
    for expected in ["trace.jsonl: not a record: line 2", "line 3", "line 5", "torn.trace"] {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
    // The same of traces that were read before.
    let open = |name| Trace::open(directory.path(name)).expect("readable");
    let read = diff(&open("bad"), &open("good"), &Tolerance::default());
    assert_eq!((read.conclusion(), &read.problems), (Conclusion::NotAllRead, &comparison.problems));
    assert!(std::panic::catch_unwind(|| read.assert_match()).is_err());
    let fails = |a: &str, b: &str| paths(&directory.path(a), &directory.path(b)).expect_err("refused").to_string();
    assert!(fails("good", "good").contains("on both sides"));
    assert!(fails("good", "empty").contains("holds no trace"));
    assert!(fails("good", "missing").contains("missing"));
    assert!(fails("later", "good").contains("bitnet-trace/2"));
    assert!(fails("garbage", "good").contains("line 1"));
    assert!(Trace::open(directory.path("later")).is_err());
}

/// Lines of any length take bounded memory, and take no other line with them.
#[test]
fn a_line_without_end_is_named() {
    use std::io::{Seek, SeekFrom, Write};
    let directory = Directory::new(&[("a.jsonl", &record("t0/a", ""))]);
    let mut file = fs::File::create(directory.path("b.jsonl")).expect("a file");
    writeln!(file, "{}", record("t0/a", "")).expect("written");
    // Zeros, of which no byte lies on the disk.
    file.seek(SeekFrom::Current(200 << 20)).expect("sought");
    writeln!(file, "\n{}", record("t0/b", "")).expect("written");
    let comparison = paths(&directory.path("a.jsonl"), &directory.path("b.jsonl")).expect("readable");
    assert_eq!((comparison.compared(), comparison.count(Verdict::OnlyTrace)), (1, 1), "{comparison}");
    assert!(comparison.problems[0].contains("line 2: longer than"), "{:?}", comparison.problems);
}

#[test]
fn values_that_are_missing_or_wrong_are_named_and_the_sketch_is_taken() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str, seed: u32| {
        let session = TraceSession::builder()
            .dir(directory.path().join(name))
            .capture("sketch,values")
            .start()
            .expect("a session");
        session.in_scope(|| tap("x", &tensor(&noise(seed, 64))));
        session.finish().expect("nothing lost");
        directory.path().join(name)
    };
    let (reference, other) = (run("reference", 1), run("other", 2));
    let record = |path: &Path| -> TraceRecord { Trace::open(path).expect("readable").records()[0].clone() };
    let file = other.join(record(&other).values.expect("captured"));
    let check = |expected: &str| {
        let comparison = paths(&reference, &other).expect("readable");
        let details = comparison.pairs[0].details.clone().expect("details");
        assert_eq!(details.difference.expect("numbers").evidence, Evidence::Sketch);
        assert!(comparison.problems.join("\n").contains(expected), "{expected}: {:?}", comparison.problems);
    };
    fs::copy(reference.join(record(&reference).values.expect("captured")), directory.path().join("whole"))
        .expect("copied");
    let shorter = tensor(&noise(2, 32));
    candle_core::safetensors::save(&std::collections::HashMap::from([("x", shorter)]), &file).expect("written");
    check("shape [32]");
    fs::write(&file, [0xff; 64]).expect("written");
    check("not the captured values");
    fs::remove_file(&file).expect("removed");
    check("cannot read");
    // A record that names a file outside the directory.
    let path = other.join("x.trace");
    let text = fs::read_to_string(&path).expect("readable");
    let outside = text.replace(&record(&other).values.expect("named"), "../whole");
    assert_ne!(text, outside);
    fs::write(&path, outside).expect("written");
    check("not a path inside");
}

/// The directory of a further process that may not be read takes the others' records no more with it
/// than a damaged file does.
#[cfg(unix)]
#[test]
fn a_process_that_cannot_be_read_is_named_and_the_rest_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let directory = Directory::new(&[
        ("a/trace.jsonl", &record("t0/a", "")),
        ("a/p12/trace.jsonl", &record("t0/b", "")),
        ("b/trace.jsonl", &record("t0/a", "")),
    ]);
    let closed = directory.path("a/p12");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    if fs::read_dir(&closed).is_ok() {
        println!("SKIPPED: this user may read everything");
        return;
    }
    let comparison = paths(&directory.path("a"), &directory.path("b"));
    let trace = Trace::open(directory.path("a"));
    let verification = bitnet_trace::tools::verify(directory.path("a"), &mut |_, _| ());
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("open again");
    let (comparison, trace) = (comparison.expect("readable"), trace.expect("readable"));
    assert_eq!((comparison.compared(), comparison.conclusion()), (1, Conclusion::NotAllRead), "{comparison}");
    assert!(comparison.problems[0].contains("p12"), "{:?}", comparison.problems);
    assert_eq!((trace.records().len(), trace.problems().len()), (1, 1));
    let verification = verification.expect("readable");
    let named = verification.findings.iter().any(|finding| finding.contains("p12"));
    assert!(verification.records == 1 && named, "{:?}", verification.findings);
}
