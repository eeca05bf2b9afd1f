//! Measures whole recording calls: beyond the digest, against the earlier tracer, and for a decode step
//! against BLAKE3 alone.
//!
//! All sides of a table run in turns within one process, and the medians of their thread CPU times are
//! compared (on disk, the medians of the wall clock, because a call mostly waits there).

#[path = "../core/benches/clock/mod.rs"]
mod clock;

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use bitnet_trace::{TraceContext, TraceSession, tap, traced};
use bitnet_trace_core::digest::{Elements, TensorView, Wanted, digest};
use candle_core::{CpuStorage, DType, Device, Error, Result, Storage, Tensor};
use serde_json::json;
use tempfile::TempDir;

use crate::clock::{count, medians, thread_seconds};

/// How many turns a side gets.
const ROUNDS: usize = 41;

/// How many elements a side reads in one turn at least, so that the time for reading the clock does not matter.
const TURN: usize = 1 << 18;

/// Turns, and calls in a turn, on disk, where the earlier tracer's calls take milliseconds.
const DISK_ROUNDS: usize = 15;
const DISK_CALLS: usize = 8;
/// How many files the earlier tracer left on disk. It is measured while it overwrites one of them with every
/// call, and while it overwrites all in turn, as decode steps do.
const DISK_FILES: usize = 361;

/// Starts the first of the two runs in a directory on disk, in a process of its own: a run lasts as long as its
/// process.
const FIRST_RUN: &str = "--first-run";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [FIRST_RUN, root] = args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return first_run(Path::new(root));
    }
    println!("{}\n", processor());
    let memory = memory()?;
    beyond_the_digest(memory.path())?;
    earlier_tracer(memory.path())?;
    decode_step(memory.path())?;
    on_disk()
}

/// An annotated function as in a model.
#[traced]
fn attn_norm(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

fn beyond_the_digest(root: &Path) -> Result<()> {
    println!("beyond the digest of 1x2560 f32, us a record");
    println!("{:<16} {:>8} {:>8} {:>10}", "format, capture", "call", "digest", "difference");
    let tensor = random(1, 2560)?;
    for format in ["jsonl", "files"] {
        for capture in ["none", "sketch"] {
            let session = session(&root.join(format!("digest-{format}-{capture}")), format, capture)?;
            let wanted = Wanted { sketch: capture == "sketch", rows: false };
            let mut step = 0;
            let [digest, call] = session.in_scope(|| {
                medians(
                    ROUNDS,
                    TURN / tensor.elem_count(),
                    thread_seconds,
                    [&mut || digested(&tensor, wanted), &mut || call(&tensor, &mut step)],
                )
            });
            let row = format!("{format}, {capture}");
            let [digest, call] = [digest, call].map(|seconds| seconds * 1e6);
            println!("{row:<16} {call:>8.2} {digest:>8.2} {:>10.2}", call - digest);
            end(session)?;
        }
    }
    println!();
    Ok(())
}

/// Digests a contiguous tensor of f32 without recording it.
fn digested(tensor: &Tensor, wanted: Wanted) {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(CpuStorage::F32(data)) = &*storage else { panic!("f32 on the CPU") };
    let data = &data[layout.start_offset()..][..tensor.elem_count()];
    let view = TensorView::contiguous(Elements::F32(data), layout.dims()).expect("as many elements");
    let _ = black_box(digest(black_box(&view), wanted));
}

fn earlier_tracer(root: &Path) -> Result<()> {
    println!("a `jsonl` call over the earlier tracer's, default capture");
    println!("{:<16} {:>10} {:>10} {:>10} {:>8}", "tensor", "blake3 us", "earlier us", "call us", "ratio");
    for rows in [1, 128] {
        let tensor = random(rows, 2560)?;
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        let session = session(&root.join(format!("call-{rows}")), "jsonl", "sketch")?;
        let directory = root.join(format!("earlier-{rows}"));
        let mut step = 0;
        let [hash, earlier, call] = session.in_scope(|| {
            medians(
                ROUNDS,
                (TURN / tensor.elem_count()).max(1),
                thread_seconds,
                [
                    &mut || _ = black_box(blake3::hash(bytemuck::cast_slice(black_box(&values)))),
                    &mut || earlier(&directory, 0, black_box(&tensor)),
                    &mut || call(&tensor, &mut step),
                ],
            )
        });
        let row = format!("{rows}x2560 f32");
        let (hash, earlier, call, ratio) = (hash * 1e6, earlier * 1e6, call * 1e6, call / earlier);
        println!("{row:<16} {hash:>10.2} {earlier:>10.2} {call:>10.2} {ratio:>8.3}");
        end(session)?;
    }
    println!();
    Ok(())
}

/// The stages of a block of BitNet b1.58 2B-4T and their widths: hidden size 2560 (20 heads of 128),
/// 640 for keys and values (5 heads), 6912 inside the feed-forward network.
const STAGES: [(&str, usize); 12] = [
    ("attn_norm", 2560),
    ("q_proj", 2560),
    ("k_proj", 640),
    ("v_proj", 640),
    ("attn_out", 2560),
    ("attn_sub_norm", 2560),
    ("o_proj", 2560),
    ("ffn_norm", 2560),
    ("gate_proj", 6912),
    ("up_proj", 6912),
    ("ffn_sub_norm", 6912),
    ("down_proj", 2560),
];
const LAYERS: usize = 30;
const VOCABULARY: usize = 128_256;

fn decode_step(root: &Path) -> Result<()> {
    let layers: Vec<Vec<(&str, Tensor)>> = (0..LAYERS)
        .map(|_| STAGES.iter().map(|(stage, width)| Ok((*stage, random(1, *width)?))).collect())
        .collect::<Result<_>>()?;
    let logits = random(1, VOCABULARY)?;
    let values: Vec<Vec<f32>> = layers
        .iter()
        .flatten()
        .map(|(_, tensor)| tensor)
        .chain([&logits])
        .map(|tensor| tensor.flatten_all()?.to_vec1())
        .collect::<Result<_>>()?;

    println!("a decode step of {} records, `jsonl`, over BLAKE3 of the same bytes", values.len());
    println!("{:<16} {:>10} {:>10} {:>10} {:>8}", "capture", "blake3 us", "digest us", "step us", "ratio");
    for capture in ["none", "sketch"] {
        let session = session(&root.join(format!("step-{capture}")), "jsonl", capture)?;
        let mut step = 0;
        let wanted = Wanted { sketch: capture == "sketch", rows: false };
        let [hash, digest, time] = session.in_scope(|| {
            medians(
                ROUNDS,
                1,
                thread_seconds,
                [
                    &mut || {
                        for values in &values {
                            black_box(blake3::hash(bytemuck::cast_slice(black_box(values))));
                        }
                    },
                    &mut || {
                        for tensor in layers.iter().flatten().map(|(_, tensor)| tensor).chain([&logits]) {
                            digested(tensor, wanted);
                        }
                    },
                    &mut || {
                        step += 1;
                        let _step = TraceContext::seq(step).enter();
                        for (index, layer) in layers.iter().enumerate() {
                            let _layer = TraceContext::layer(index).enter();
                            for (stage, tensor) in layer {
                                tap(stage, tensor);
                            }
                        }
                        tap("logits", &logits);
                    },
                ],
            )
        });
        let (hash, digest, time, ratio) = (hash * 1e6, digest * 1e6, time * 1e6, time / hash);
        println!("{capture:<16} {hash:>10.1} {digest:>10.1} {time:>10.1} {ratio:>8.3}");
        end(session)?;
    }
    println!();
    Ok(())
}

fn on_disk() -> Result<()> {
    let root = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let first = Command::new(std::env::current_exe()?).arg(FIRST_RUN).arg(root.path()).status()?;
    if !first.success() {
        return Err(Error::msg(format!("the first run on disk: {first}")));
    }
    println!("second run into the same directory, 1x2560 f32, wall clock, in {}", env!("CARGO_TARGET_TMPDIR"));
    println!("{:<8} {:>12} {:>10} {:>10} {:>8}", "format", "overwritten", "earlier us", "call us", "ratio");
    let tensor = random(1, 2560)?;
    let directory = root.path().join("earlier");
    let begin = Instant::now();
    for format in ["jsonl", "files"] {
        let session = session(&root.path().join(format), format, "sketch")?;
        let mut step = 0;
        for files in [1, DISK_FILES] {
            let mut next = 0;
            let [earlier, call] = session.in_scope(|| {
                medians(
                    DISK_ROUNDS,
                    DISK_CALLS,
                    || begin.elapsed().as_secs_f64(),
                    [
                        &mut || {
                            earlier(&directory, next % files, black_box(&tensor));
                            next += 1;
                        },
                        &mut || call(&tensor, &mut step),
                    ],
                )
            });
            let (earlier, call, ratio) = (earlier * 1e6, call * 1e6, call / earlier);
            let files = format!("{files} in turn");
            println!("{format:<8} {files:>12} {earlier:>10.1} {call:>10.1} {ratio:>8.4}");
        }
        end(session)?;
    }
    Ok(())
}

/// Fills the directories with an older run.
fn first_run(root: &Path) -> Result<()> {
    let tensor = random(1, 2560)?;
    (0..DISK_FILES).for_each(|step| earlier(&root.join("earlier"), step, &tensor));
    for format in ["jsonl", "files"] {
        let session = session(&root.join(format), format, "sketch")?;
        let mut step = 0;
        (0..DISK_FILES).for_each(|_| session.in_scope(|| call(&tensor, &mut step)));
        end(session)?;
    }
    Ok(())
}

/// A call in layer 3 of a new step.
fn call(tensor: &Tensor, step: &mut usize) {
    *step += 1;
    let _place = TraceContext::seq(*step).with_layer(3).enter();
    let _ = black_box(attn_norm(black_box(tensor)));
}

/// Does what the earlier tracer did at each call, in the same order. It had no state: each call looks up the
/// variable, makes the directory, copies the tensor twice and overwrites the record's file.
fn earlier(directory: &Path, step: usize, tensor: &Tensor) {
    fn dump(directory: &Path, step: usize, tensor: &Tensor) -> Result<()> {
        let name = format!("t{step}/blk3/attn_norm");
        let _ = black_box(std::env::var("BITNET_TRACE_DIR"));
        fs::create_dir_all(directory)?;
        let values: Vec<f32> = tensor.to_dtype(DType::F32)?.contiguous()?.flatten_all()?.to_vec1()?;
        let bytes: Vec<u8> = bytemuck::cast_slice(&values).to_vec();
        let blake3 = blake3::hash(&bytes).to_hex().to_string();
        let squares: f64 = values.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        let record = json!({
            "name": name,
            "shape": tensor.dims(),
            "dtype": format!("{:?}", tensor.dtype()),
            "blake3": blake3,
            "rms": (squares / count(values.len())).sqrt(),
            "num_elements": values.len(),
            "seq": step,
            "layer": 3,
            "stage": "attn_norm",
        });
        let path = directory.join(format!("{}.trace", name.replace(['/', '\\'], "_")));
        fs::write(path, serde_json::to_string_pretty(&record).map_err(Error::wrap)?)?;
        Ok(())
    }
    dump(directory, step, tensor).expect("a directory of our own");
}

fn session(directory: &Path, format: &str, capture: &str) -> Result<TraceSession> {
    TraceSession::builder().dir(directory).format(format).capture(capture).start().map_err(Error::wrap)
}

/// Fails if a call was not recorded: its time would say nothing.
fn end(session: TraceSession) -> Result<()> {
    session.finish().map(drop).map_err(Error::wrap)
}

/// Normally distributed, like activations.
fn random(rows: usize, columns: usize) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, (rows, columns), &Device::Cpu)
}

/// A directory in memory, where the platform has one.
fn memory() -> Result<TempDir> {
    let shared = PathBuf::from("/dev/shm");
    let root = if shared.is_dir() {
        shared
    } else {
        println!("there is no /dev/shm: the next tables are measured in {}\n", std::env::temp_dir().display());
        std::env::temp_dir()
    };
    Ok(TempDir::new_in(root)?)
}

fn processor() -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}
