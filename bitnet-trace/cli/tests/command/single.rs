//! One `.trace` file in place of a directory, and filters on records that have no stage.

use std::fs;
use std::path::Path;

use bitnet_trace::Trace;

use super::{Traces, said};

/// It is pretty JSON on many lines, which are not a record each.
#[test]
fn one_trace_file_is_one_record() {
    let traces = Traces::new();
    let file = |of: &str| format!("{}/t0_blk1_q_proj.trace", traces.path(of));
    let (reference, other) = (file("reference"), file("other"));
    let trace = Trace::open(&reference).expect("readable");
    assert!(trace.problems().is_empty(), "{:?}", trace.problems());
    assert_eq!(trace.records().iter().map(|record| &*record.name).collect::<Vec<_>>(), ["t0/blk1/q_proj"]);
    assert!(trace.values(&trace.records()[0]).expect("readable").is_some());
    let (code, out, err) = said(&["ls", &reference]);
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(0), 2, ""), "{out}");
    // The four records before it are not missing from it.
    let (code, out, err) = said(&["verify", &reference]);
    assert_eq!((code, out.as_str()), (Some(0), "1 records, the values of 1 checked\n"), "{err}");
    let (code, out, err) = said(&["diff", &reference, &other]);
    assert!(
        code == Some(1) && out.contains("t0/blk1/q_proj") && out.contains("reference -12, trace -18"),
        "{out}{err}"
    );
    let copy = traces.path("copy");
    assert_eq!(said(&["convert", &reference, &copy, "--format", "jsonl"]).0, Some(0));
    assert_eq!(Trace::open(&copy).expect("readable").records(), trace.records());
    // What the run says of itself is not true of one record.
    assert!(!Path::new(&copy).join("run.json").exists());
    fs::write(&other, "{\n}").expect("written");
    let (code, _, err) = said(&["ls", &other]);
    assert!(code == Some(2) && err.contains("missing field `name`") && err.lines().count() == 1, "{code:?} {err}");
}

/// As comparing does, which aligns such records by what their names say.
#[test]
fn records_without_a_stage_are_filtered_by_their_names() {
    let traces = Traces::new();
    let directory = traces.path("names");
    fs::create_dir(&directory).expect("a directory");
    let record = |name: &str, more: &str| {
        format!(
            "{{\"name\":\"{name}\",\"shape\":[2],\"dtype\":\"F32\",\"blake3\":\"00\",\"rms\":1.0,\"num_elements\":2{more}}}\n"
        )
    };
    let lines = [
        record("t1/blk3/q_proj", ""),
        record("t1/blk3/q_proj.in.x", ""),
        record("t2/logits", ",\"seq\":7"),
        record("q_proj.weight", ",\"io\":\"weight\""),
        record("t1/blk3/named", ",\"stage\":\"k_proj\""),
        record("some/other/name", ""),
    ];
    fs::write(Path::new(&directory).join("trace.jsonl"), lines.concat()).expect("written");
    let trace = Trace::open(&directory).expect("readable");
    for (filter, expected) in [
        ("stage=q_*", &["t1/blk3/q_proj", "t1/blk3/q_proj.in.x", "q_proj.weight"][..]),
        ("stage=q_*,io=in", &["t1/blk3/q_proj.in.x"]),
        ("stage=q_proj,io=out", &["t1/blk3/q_proj"]),
        ("layer=3,seq=1", &["t1/blk3/q_proj", "t1/blk3/q_proj.in.x"]),
        // A field takes precedence over the name.
        ("seq=7", &["t2/logits"]),
        ("seq=2", &[]),
        ("stage=k_proj", &["t1/blk3/named"]),
        ("stage=named", &[]),
        ("stage=some/*", &["some/other/name"]),
    ] {
        let found = trace.filtered(filter).expect("a filter");
        assert_eq!(found.iter().map(|record| &*record.name).collect::<Vec<_>>(), expected, "{filter}");
    }
    let (code, out, err) = said(&["ls", &directory, "--filter", "stage=q_proj", "--json"]);
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(0), 2, ""), "{out}");
}
