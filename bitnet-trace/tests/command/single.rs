//! One `.trace` file in place of a directory.

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
    assert!(code == Some(1) && out.contains("t0/blk1/q_proj") && out.contains("times 1.5"), "{out}{err}");
    let copy = traces.path("copy");
    assert_eq!(said(&["convert", &reference, &copy, "--format", "jsonl"]).0, Some(0));
    assert_eq!(Trace::open(&copy).expect("readable").records(), trace.records());
    // What the run says of itself is not true of one record.
    assert!(!Path::new(&copy).join("run.json").exists());
    fs::write(&other, "{\n}").expect("written");
    let (code, _, err) = said(&["ls", &other]);
    assert!(code == Some(2) && err.contains("missing field `name`") && err.lines().count() == 1, "{code:?} {err}");
}
