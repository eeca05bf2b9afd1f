//! Measures the time and the peak memory of comparing two captured tensors of 512 MiB. Fails if the memory is
//! more than three times one tensor, whatever the cause of their difference is.
//!
//! `cargo bench -p bitnet-trace-core --bench values`, with 1 GiB free in the temporary
//! directory. `/usr/bin/time -v` of the line it prints measures one comparison alone.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::env;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use bitnet_trace_core::compare::{DiffOptions, diff_paths};

/// Tokens and channels of the tensor, elements of f32.
const ROWS: u64 = 8192;
const COLUMNS: u64 = 16384;
const BYTES: u64 = ROWS * COLUMNS * 4;

/// The most memory that a comparison may take, in sizes of one tensor.
const MOST: f64 = 3.0;

/// Noise from -1 to 1: splitmix64 of the element's index.
fn noise(seed: u64, place: u64) -> f32 {
    let mut x = (place ^ seed << 40).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// The element of a tensor at an index.
type Element = Box<dyn Fn(u64) -> f32>;

/// A trace of one record, written element by element.
fn write(directory: &Path, hash: &str, element: impl Fn(u64) -> f32) {
    fs::create_dir_all(directory).expect("created");
    let shape = format!("[{ROWS},{COLUMNS}]");
    let record = format!(
        r#"{{"name":"t0/logits","shape":{shape},"dtype":"F32","num_elements":{},"rms":0.5,"blake3":"{}","values":"x.safetensors"}}"#,
        ROWS * COLUMNS,
        hash.repeat(32)
    );
    fs::write(directory.join("trace.jsonl"), record).expect("written");
    let header = format!(r#"{{"x":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{BYTES}]}}}}"#);
    let mut file = BufWriter::new(File::create(directory.join("x.safetensors")).expect("created"));
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    for place in 0..ROWS * COLUMNS {
        file.write_all(&element(place).to_le_bytes()).expect("written");
    }
    file.flush().expect("written");
}

/// The most memory that this process had, in bytes.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Compares two traces and prints what it took. Runs in a process of its own, whose peak memory is its own too.
fn compare(reference: &str, trace: &str) {
    let before = Instant::now();
    let comparison =
        diff_paths(Path::new(reference), Path::new(trace), &DiffOptions::default(), &mut |_, _| ()).expect("readable");
    let first = comparison.first_divergence().expect("one").details.as_ref().expect("details");
    let cause = first.cause.as_ref().map_or_else(|| "no cause".to_owned(), ToString::to_string);
    let size = peak() as f64 / BYTES as f64;
    println!("{:>6.1} s  {size:.2} times the tensor  {cause}", before.elapsed().as_secs_f64());
    assert!(first.difference.as_ref().is_some_and(|difference| difference.max_abs.is_some()), "compared by values");
    assert!(size <= MOST, "{size} times the tensor, expected at most {MOST}");
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [reference, trace] = &arguments[..] {
        return compare(reference, trace);
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    write(&path("reference"), "aa", |place| noise(0, place));
    let turned = |place: u64| place % ROWS * COLUMNS + place / ROWS;
    let moved = |place: u64| (place / COLUMNS * 5 + 1) % ROWS * COLUMNS + place % COLUMNS;
    let cases: [(&str, Element); 5] = [
        ("noise", Box::new(|place| noise(1, place))),
        ("noise added", Box::new(|place| noise(0, place) + noise(1, place) / 1024.0)),
        ("rows permuted", Box::new(move |place| noise(0, moved(place)))),
        ("transposed", Box::new(move |place| noise(0, turned(place)))),
        ("factor", Box::new(|place| noise(0, place) * 1.5)),
    ];
    println!("two tensors of {} MiB, reading the files included", BYTES >> 20);
    for (what, element) in cases {
        write(&path("trace"), "bb", element);
        print!("{what:<14}");
        std::io::stdout().flush().expect("written");
        let this = env::current_exe().expect("this program");
        let status = Command::new(this).args([path("reference"), path("trace")]).status().expect("started");
        assert!(status.success(), "{what}");
    }
}
