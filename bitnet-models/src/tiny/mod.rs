//! The embedded model: a BitNet b1.58 of a few hundred thousand ternary parameters that adds two
//! numbers of up to two digits, as in `12+34=` and `46`.
//!
//! Trained from scratch by the example `train_tiny`, which writes the three files beside this one:
//! `cargo run --release --example train_tiny`.

use crate::checkpoint::Checkpoint;
use crate::error::Result;

/// The embedded checkpoint, read by the same code as a directory.
///
/// # Errors
///
/// None, unless the files in the repository are damaged.
pub fn checkpoint() -> Result<Checkpoint> {
    Checkpoint::embedded(
        "embedded",
        &[
            ("config.json", include_bytes!("config.json")),
            ("model.safetensors", include_bytes!("model.safetensors")),
            ("tokenizer.json", include_bytes!("tokenizer.json")),
        ],
    )
}
