//! Makes traces of any size, with records as this library writes them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bitnet_trace::TraceRecord;
use serde_json::json;

/// The layers and the stages of every step.
const LAYERS: usize = 5;
const STAGES: usize = 20;

/// Writes `count` records with statistics and a sketch into a directory, one a line of `trace.jsonl`. From the
/// record `fault` on, every tenth record is of another tensor.
///
/// # Panics
///
/// If it cannot be written.
pub fn write(directory: &Path, count: usize, fault: usize) {
    std::fs::create_dir_all(directory).expect("a directory");
    let mut file = BufWriter::new(File::create(directory.join("trace.jsonl")).expect("a file"));
    for order in 0..count {
        let other = order >= fault && order % 10 == fault % 10;
        serde_json::to_writer(&mut file, &record(order, other)).expect("written");
        file.write_all(b"\n").expect("written");
    }
    file.flush().expect("written");
}

/// The record with this place in the order; with `other`, of another tensor.
fn record(order: usize, other: bool) -> TraceRecord {
    let (seq, layer, stage) = (order / (LAYERS * STAGES), order / STAGES % LAYERS, order % STAGES);
    // The numbers are not random, only different from each other.
    let mixed = |salt: u64| ((order as u64) << 8 | salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // The numbers have as many digits as measured ones.
    let number = |salt| f64::from(u32::try_from(mixed(salt) >> 32).unwrap_or(0)) / 3.0e9;
    let hash =
        |salt| format!("{:016x}{:016x}{:016x}{:016x}", mixed(salt), mixed(salt + 2), mixed(salt + 4), mixed(salt + 6));
    let sketch = if other { "AACAPwAAAEA" } else { "AACAPwAAgD8" }.to_owned() + &"A".repeat(331) + "==";
    let record = json!({
        "name": format!("t{seq}/blk{layer}/stage_{stage}"),
        "shape": [1, 1, 2560],
        "dtype": "F32",
        "blake3": hash(u64::from(other)),
        "rms": number(8),
        "num_elements": 2560,
        "seq_index": seq,
        "layer_idx": layer,
        "stage": format!("stage_{stage}"),
        "order": order,
        "tokens": [seq, seq + 1],
        "min": -number(10),
        "max": number(12),
        "mean": number(14) / 64.0,
        "sketch": sketch,
        "site": format!("src/model.rs:{} stage_{stage}", 10 * stage),
    });
    serde_json::from_value(record).unwrap_or_else(|error| panic!("a record of ours: {error}"))
}
