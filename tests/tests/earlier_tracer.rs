//! The behaviour that the earlier tracer's own tests checked, and how its readers and ours read each other's
//! records.

use std::path::Path;
use std::process::{Command, Output};

use bitnet_trace::TraceRecord;
use bitnet_trace_tests::{names, records, succeed};
use serde::{Deserialize, Serialize};

/// Runs the scenario with the variable set to `directory`; unset if there is none.
fn scenario(directory: Option<&Path>, steps: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.args(steps).env_remove("BITNET_TRACE_DIR");
    if let Some(directory) = directory {
        command.env("BITNET_TRACE_DIR", directory);
    }
    succeed(&mut command)
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

#[test]
fn file_names_are_sanitized() {
    let dir = directory();
    scenario(Some(dir.path()), &["dump t0/blk0\\attn_norm"]);
    assert_eq!(names(dir.path()), ["t0_blk0_attn_norm"]);
    assert_eq!(records(dir.path())[0].1.name, "t0/blk0\\attn_norm");
}

#[test]
fn disabled_is_silent() {
    let output = scenario(None, &["dump x", "traced 2"]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn an_empty_variable_disables() {
    let output = scenario(Some(Path::new("")), &["dump x", "traced 2"]);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn records_round_trip_through_json() {
    let dir = directory();
    scenario(Some(dir.path()), &["traced 1"]);
    let (_, record) = &records(dir.path())[0];
    let json = serde_json::to_string(record).expect("JSON");
    assert_eq!(&serde_json::from_str::<TraceRecord>(&json).expect("a record"), record);
}

#[test]
fn the_full_workflow() {
    let dir = directory();
    scenario(Some(dir.path()), &["dump t0/x", "dump-in-context t1/y"]);
    let found = records(dir.path());
    assert_eq!(names(dir.path()), ["t0_x", "t1_y"]);
    let record = &found[0].1;
    assert_eq!((record.shape.as_slice(), record.dtype.as_str(), record.num_elements), (&[3][..], "F32", 3));
    assert!((record.rms - (14.0f64 / 3.0).sqrt()).abs() < 1e-12);
    // BLAKE3 of 1.0, -2.0, 3.0 as little-endian f32, by the Python package `blake3`.
    assert_eq!(record.blake3, "403d34a508e07ca7454cd9b1b54bd910d45dc0748b437093e4eb6bf74c792d7a");
    let record = &found[1].1;
    assert_eq!((record.seq_index, record.layer_idx, record.request), (Some(1), None, None));
    assert_eq!(record.stage.as_deref(), Some("stage"));
}

#[test]
fn nested_directories_are_created() {
    let dir = directory();
    let nested = dir.path().join("a/b/c");
    scenario(Some(&nested), &["dump x"]);
    assert_eq!(names(&nested), ["x"]);
}

#[test]
fn single_and_double_precision_in_one_to_four_dimensions() {
    let dir = directory();
    scenario(Some(dir.path()), &["dump-shapes"]);
    let found = records(dir.path());
    assert_eq!(found.len(), 8);
    for (name, record) in &found {
        let (dtype, rank) = name.split_once('-').expect("as named by the scenario");
        assert_eq!(record.dtype, dtype);
        assert_eq!(record.shape.len().to_string(), rank);
        // They are converted to f32 before hashing, so all eight hashes are equal.
        assert_eq!(record.blake3, found[0].1.blake3);
        assert_eq!(record.raw_blake3.is_some(), dtype == "F64");
    }
}

#[test]
fn a_record_with_nan_reads_back() {
    let dir = directory();
    scenario(Some(dir.path()), &["dump-nan"]);
    let (_, record) = &records(dir.path())[0];
    assert!(record.rms.is_nan());
    assert_eq!((record.nan_count, record.min, record.max), (1, Some(1.0), Some(1.0)));
}

/// The earlier tracer's structure, as its tools declare it.
#[derive(Serialize, Deserialize, Debug)]
struct EarlierRecord {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    blake3: String,
    rms: f64,
    num_elements: usize,
}

#[test]
fn the_earlier_structure_reads_our_records_and_we_read_its() {
    let dir = directory();
    scenario(Some(dir.path()), &["traced 1"]);
    let json = std::fs::read(dir.path().join("double.trace")).expect("the record");
    let earlier: EarlierRecord = serde_json::from_slice(&json).expect("its six fields");
    assert_eq!((earlier.name.as_str(), earlier.num_elements), ("double", 3));

    let json = serde_json::to_string_pretty(&earlier).expect("JSON");
    let record: TraceRecord = serde_json::from_str(&json).expect("a record without the new fields");
    assert_eq!(record.blake3, earlier.blake3);
    assert_eq!((record.order, record.seq_index, record.layer_idx, record.stage), (None, None, None, None));
}
