//! Files that are damaged or made to do harm: a message that names file, place, what was expected and what was found;
//! never a panic, a read outside the file or memory that the file does not account for.

mod bytes;
mod gguf;
mod safetensors;
mod shards;

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

/// The message of a checkpoint that must be refused.
fn refused(checkpoint: Result<Checkpoint>, case: &str) -> String {
    load(checkpoint).expect_err(case)
}
