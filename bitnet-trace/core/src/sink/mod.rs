//! The sink floor: where records and captured values are written.
//!
//! The sinks are `files` (one JSON file per record), `jsonl` (one line per record), `memory` and `print`; `values`
//! writes captured tensors. A sink has written a record before its function returns: such a record survives
//! when the process is killed. A sink does not know who owns a directory; `run` decides when and where it writes.
//!
//! It imports `digest`, `record` and, for values in memory, `trace`; never `run` or `session`.

mod file_stem;
pub(crate) mod files;
mod jsonl;
mod line;
mod memory;
pub(crate) mod print;
pub(crate) mod values;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub(crate) use file_stem::file_stem;
pub(crate) use jsonl::Jsonl;
pub(crate) use memory::Memory;

use crate::error::Error;
use crate::failing::locked;

/// The number of files whose names became equal when they were sanitized, by the path of the first of them.
#[derive(Default)]
pub(crate) struct StemCounts(Mutex<HashMap<PathBuf, usize>>);

/// Creates a new file for the record of this name. If the file name is taken, it gets `~2`, `~3`, ...
fn create_new(directory: &Path, name: &str, extension: &str, counts: &StemCounts) -> Result<(File, PathBuf), Error> {
    let stem = file_stem(name);
    let first = directory.join(format!("{stem}.{extension}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    match options.open(&first) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("create", &first)(error)),
        Ok(file) => return Ok((file, first)),
    }
    loop {
        let number = {
            let mut counts = locked(&counts.0);
            let number = counts.entry(first.clone()).or_insert(1);
            *number += 1;
            *number
        };
        let path = directory.join(format!("{stem}~{number}.{extension}"));
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create", &path)(error)),
            Ok(file) => return Ok((file, path)),
        }
    }
}
