//! `convert --format parquet`, read back.

use std::fs;
use std::path::Path;

use bitnet_trace::Trace;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Row, RowAccessor};

use super::{Traces, said};

fn rows(path: &str) -> Vec<Row> {
    let reader = SerializedFileReader::new(fs::File::open(path).expect("written")).expect("Parquet");
    reader.get_row_iter(None).expect("rows").map(|row| row.expect("a row")).collect()
}

#[test]
fn a_parquet_table_has_a_row_a_record() {
    let traces = Traces::new();
    let (source, table) = (traces.path("reference"), traces.path("table.parquet"));
    assert_eq!(said(&["convert", &source, &table, "--format", "parquet"]).0, Some(0));
    let (rows, trace) = (rows(&table), Trace::open(&source).expect("readable"));
    assert_eq!(rows.len(), 5);
    assert_eq!(
        (rows[1].get_string(1).expect("a name").as_str(), rows[1].get_long(4).ok()),
        ("t0/blk0/attn_norm", Some(0))
    );
    assert_eq!(rows[1].get_double(13).expect("rms").to_bits(), trace.records()[1].rms.to_bits());
    assert!(rows[0].get_long(4).is_err(), "embeddings have no layer");
}

/// A trace of these lines, and where its table would be.
fn lines(traces: &Traces, lines: &str) -> (String, String) {
    let directory = traces.path("lines");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("a directory");
    fs::write(Path::new(&directory).join("trace.jsonl"), lines).expect("written");
    (directory, traces.path("lines.parquet"))
}

/// Hashes are used as requests, and half of all 64-bit numbers are above the largest signed one.
#[test]
fn every_order_and_request_is_in_the_table() {
    let traces = Traces::new();
    let line = |order: u64, request: u64| {
        format!(
            "{{\"name\":\"a\",\"shape\":[2],\"dtype\":\"F32\",\"blake3\":\"00\",\"rms\":1.0,\"num_elements\":2,\
             \"order\":{order},\"request\":{request}}}\n"
        )
    };
    let numbers = [0, 1, i64::MAX.cast_unsigned(), i64::MAX.cast_unsigned() + 1, u64::MAX];
    let written: String = numbers.iter().map(|number| line(*number, *number)).collect();
    let (source, table) = lines(&traces, &written);
    let (code, _, err) = said(&["convert", &source, &table, "--format", "parquet"]);
    assert_eq!(code, Some(0), "{err}");
    let read: Vec<_> = rows(&table).iter().map(|row| (row.get_ulong(0).ok(), row.get_ulong(2).ok())).collect();
    assert_eq!(read, numbers.map(|number| (Some(number), Some(number))));
}

/// It is named and refused, not left out of the table.
#[test]
fn a_count_that_no_signed_number_holds_is_refused() {
    let traces = Traces::new();
    let line = format!(
        "{{\"name\":\"odd\",\"shape\":[2],\"dtype\":\"F32\",\"blake3\":\"00\",\"rms\":1.0,\"num_elements\":{}}}\n",
        u64::MAX
    );
    let (source, table) = lines(&traces, &line);
    let (code, _, err) = said(&["convert", &source, &table, "--format", "parquet"]);
    for expected in ["num_elements", "odd", "18446744073709551615", "lines.parquet"] {
        assert!(code == Some(2) && err.contains(expected), "{expected}: {code:?} {err}");
    }
    assert!(!Path::new(&table).exists());
}
