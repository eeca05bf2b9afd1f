//! Where records go. Every sink keeps a record before it returns: a record whose call came back
//! survives a killed process.

mod file_stem;
pub(crate) mod files;
mod jsonl;
mod memory;
pub(crate) mod print;
pub(crate) mod values;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

pub(crate) use file_stem::file_stem;
pub(crate) use jsonl::Jsonl;
pub(crate) use memory::Memory;

use crate::error::Error;

/// How many files of names that sanitize alike there are, by the first of them.
#[derive(Default)]
pub(crate) struct Alike(Mutex<HashMap<PathBuf, usize>>);

/// A file for the record of this name that was not there before: a name that is taken gets `~2`,
/// `~3`, ...
fn create_new(directory: &Path, name: &str, extension: &str, alike: &Alike) -> Result<(File, PathBuf), Error> {
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
            let mut alike = alike.0.lock().unwrap_or_else(PoisonError::into_inner);
            let number = alike.entry(first.clone()).or_insert(1);
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
