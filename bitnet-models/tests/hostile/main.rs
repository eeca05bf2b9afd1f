//! Files that are damaged or made to do harm: a message that names file, place, what was expected and what was found;
//! never a panic, a read outside the file or memory that the file does not account for.

mod bytes;
mod gguf;
mod safetensors;
mod shards;

use std::path::Path;

use bitnet_models::checkpoint::inspect::Inspection;
use bitnet_models::synth::{Format, Shape, Synth};
use bitnet_models::{Activation, Checkpoint, Result, Transformer};
use tempfile::TempDir;

/// Writes a tiny checkpoint; the path is `model` in the directory.
fn synthetic(format: Format) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let synth = Synth { shape: Shape::Tiny, format, activation: Activation::Relu2, seed: 5 };
    synth.write(&directory.path().join("model"), &mut |_, _| ()).expect("written");
    directory
}

/// Reads all of a checkpoint, as a run does.
fn load(checkpoint: Result<Checkpoint>) -> std::result::Result<(), String> {
    checkpoint.and_then(|checkpoint| Transformer::load(&checkpoint)).map(drop).map_err(|error| error.to_string())
}

/// Checks that of at least so many problems of a checkpoint 100 are shown, and shortly.
fn few_short_problems(path: &Path, at_least: u64) {
    let inspection = Inspection::of(path).expect("something to show");
    let (last, kept) = inspection.problems.split_last().expect("problems");
    assert!(kept.len() == 100 && kept.iter().all(|problem| problem.len() < 1000), "{}", kept.len());
    let more = last.strip_prefix("and ").and_then(|rest| rest.strip_suffix(" more problems"));
    let more: u64 = more.and_then(|more| more.parse().ok()).unwrap_or_else(|| panic!("{last}"));
    assert!(more + 100 >= at_least && more < 2 * at_least, "{more}");
}

/// The message of a checkpoint that must be refused.
fn refused(checkpoint: Result<Checkpoint>, case: &str) -> String {
    load(checkpoint).expect_err(case)
}
