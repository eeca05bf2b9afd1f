//! Calls every reader of files and uses what it read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bitnet_trace_core::compare::{DiffOptions, NameMap, diff_paths};
use bitnet_trace_core::report::{Html, Screen};
use bitnet_trace_core::tools::verify;
use bitnet_trace_core::trace::Manifest;
use bitnet_trace_core::{Tolerance, Trace, TraceRecord, diff};

/// A record that every comparison finds on its other side.
const RECORD: &str = r#"{"name":"t0/blk0/q","shape":[2,2],"dtype":"F32","blake3":"00","rms":1.0,"num_elements":4,"seq_index":0,"layer_idx":0,"stage":"q","order":0,"tokens":[0,2],"values":"x.safetensors","min":0.0,"max":1.0,"mean":0.5}"#;

/// The number of reading problems that a comparison keeps.
const MOST_PROBLEMS: usize = 1000;

/// The directory of the files, in memory; it is removed at the end.
pub(crate) fn base() -> PathBuf {
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    base.join(format!("bitnet-trace-fuzz-{}", std::process::id()))
}

/// One folder whose files are the input, and one that stays the same.
fn folders() -> &'static (PathBuf, PathBuf) {
    static FOLDERS: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    FOLDERS.get_or_init(|| {
        let base = base();
        let (input, fixed) = (base.join("input"), base.join("fixed"));
        for folder in [&input, &fixed] {
            fs::create_dir_all(folder).expect("a folder");
        }
        fs::write(fixed.join("trace.jsonl"), format!("{RECORD}\n")).expect("written");
        (input, fixed)
    })
}

fn write(file: &str, data: &[u8]) -> PathBuf {
    let path = folders().0.join(file);
    fs::write(&path, data).expect("written");
    path
}

/// Compares the input's folder with the other one in both directions and shows the result.
fn compare(options: &DiffOptions) {
    let (input, fixed) = folders();
    for (reference, trace) in [(input, fixed), (fixed, input)] {
        if let Ok(comparison) = diff_paths(reference, trace, options, &mut |_, _| ()) {
            let _ = Screen::new(&comparison).with_names(["a", "b"]).with_all(true).to_string();
            let _ = serde_json::to_string(&comparison);
        }
    }
}

/// The page takes longer than all the rest.
fn report() {
    let (input, fixed) = folders();
    if let Ok(comparison) = diff_paths(input, fixed, &DiffOptions::default(), &mut |_, _| ()) {
        let manifests = [input, fixed].map(|folder| Manifest::open(folder).ok().flatten());
        let html = Html::new(&comparison).with_manifests([manifests[0].as_ref(), manifests[1].as_ref()]);
        let _ = html.to_string();
    }
}

/// Records that were read whole are compared as files are, which are read in another way. What is no record is
/// named, and the rest is compared as if it stood alone.
fn compare_records(lines: &[u8]) {
    let (input, fixed) = folders();
    let (Ok(reference), Ok(trace)) = (Trace::open(input), Trace::open(fixed)) else { return };
    let mut records = diff(&reference, &trace, &Tolerance::default());
    if reference.records().is_empty() {
        assert_eq!(records.compared(), 0);
        return;
    }
    let problems: Vec<String> = reference.problems().iter().map(ToString::to_string).collect();
    assert!(records.problems.starts_with(&problems), "{:?}", records.problems);
    records.problems.drain(..problems.len());
    if !problems.is_empty() {
        let is_record = |line: &&[u8]| serde_json::from_slice::<TraceRecord>(line).is_ok();
        write("trace.jsonl", &lines.split(|byte| *byte == b'\n').filter(is_record).collect::<Vec<_>>().join(&b'\n'));
    }
    let mut files = diff_paths(input, fixed, &DiffOptions::default(), &mut |_, _| ()).expect("readable");
    // Only a limited number is kept.
    files.problems.truncate(MOST_PROBLEMS - problems.len());
    // The conclusion depends on the problems too.
    let json = |comparison| {
        let mut json = serde_json::to_value(comparison).expect("JSON");
        json["conclusion"].take();
        json
    };
    assert_eq!(json(&records), json(&files));
    write("trace.jsonl", lines);
}

/// Reads a file with the reader that the first byte chooses.
pub(crate) fn read(data: &[u8]) {
    let Some((reader, data)) = data.split_first() else { return };
    let text = || std::str::from_utf8(data);
    match reader % 8 {
        0 => {
            if let Ok(record) = serde_json::from_slice::<TraceRecord>(data) {
                let _ = TraceRecord::parse_name(&record.name);
                let again = serde_json::to_vec(&record).expect("a record is JSON");
                let _: TraceRecord = serde_json::from_slice(&again).expect("what was written is read");
            }
        }
        // Lines are compared with a record that is always there, and read in every other way.
        1 | 2 => {
            write("trace.jsonl", data);
            let _ = fs::remove_file(folders().0.join("run.json"));
            compare(&DiffOptions::default());
            compare_records(data);
            if *reader % 8 == 2 {
                if let Ok(trace) = Trace::open(&folders().0) {
                    let _ = diff(&trace, &trace, &Tolerance::default()).to_string();
                    trace.records().iter().for_each(|record| drop(trace.values(record)));
                }
                let _ = verify(&folders().0, &mut |_, _| ());
                report();
            }
        }
        3 => {
            write("trace.jsonl", RECORD.as_bytes());
            write("run.json", data);
            report();
            let _ = verify(&folders().0, &mut |_, _| ());
        }
        4 => {
            if let Ok(Ok(tolerance)) = text().map(str::parse::<Tolerance>) {
                let _ = fs::remove_file(folders().0.join("run.json"));
                write("trace.jsonl", RECORD.replace("00", "01").as_bytes());
                compare(&DiffOptions::default().with_tolerance(tolerance));
            }
        }
        5 => {
            if let Ok(Ok(map)) = text().map(str::parse::<NameMap>) {
                let _ = fs::remove_file(folders().0.join("run.json"));
                write("trace.jsonl", RECORD.replace("00", "01").as_bytes());
                compare(&DiffOptions::default().with_map(map));
            }
        }
        6 => {
            let _ = fs::remove_file(folders().0.join("run.json"));
            write("trace.jsonl", RECORD.as_bytes());
            write("x.safetensors", data);
            let _ = verify(&folders().0, &mut |_, _| ());
            compare(&DiffOptions::default());
        }
        _ => {
            let (_, fixed) = folders();
            if let (Ok(trace), Ok(filter)) = (Trace::open(fixed), text()) {
                let _ = trace.filtered(filter);
            }
        }
    }
}
