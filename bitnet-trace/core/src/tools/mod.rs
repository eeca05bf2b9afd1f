//! Tools for whole traces: [`verify`] checks one, [`convert`] writes one in another format.
//!
//! `verify` compares `run.json` with the records, and computes the digest of captured values again. `convert` copies
//! records, values and `run.json` into a directory of another format; [`open_whole`] opens a trace for a conversion and
//! refuses one that is damaged.
//!
//! This module imports `trace`, `digest`, `record` and, for the names of files, `sink`.

mod convert;
mod verify;

pub use convert::{TraceFormat, convert, open_whole};
pub use verify::{Verification, verify};
