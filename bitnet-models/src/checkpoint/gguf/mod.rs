//! GGUF: one file with metadata and tensors, as llama.cpp and Microsoft's fork of it write it.
//!
//! Source: `docs/gguf.md` of ggml. An own reader, because those at hand stop at the first type they do not know, and
//! I2_S, TQ1_0 and TQ2_0 are such types to them.

mod config;
mod cursor;
mod metadata;
mod names;
mod reader;
pub(crate) mod types;
pub mod writer;

pub use metadata::{Array, Metadata, Value};

pub(super) use config::config;
pub(crate) use names::in_gguf;
pub(crate) use reader::scan;

/// The first bytes of a file.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// The alignment of tensors in a file that names no other.
pub(crate) const ALIGNMENT: u64 = 32;
