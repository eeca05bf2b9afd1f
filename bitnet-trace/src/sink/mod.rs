//! Where records go. Every sink keeps a record before it returns: a record whose call came back
//! survives a killed process.

pub(crate) mod files;
mod jsonl;
mod line;
mod memory;
pub(crate) mod print;
pub(crate) mod values;

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use jsonl::Jsonl;
pub(crate) use memory::Memory;

use crate::error::Error;
use crate::name::file_stem;

/// How many names that sanitize alike get files of their own before giving up.
const MOST_ALIKE: usize = 10_000;

/// A file for the record of this name that was not there before: a name that is taken gets `~2`,
/// `~3`, ...
fn create_new(directory: &Path, name: &str, extension: &str) -> Result<(File, PathBuf), Error> {
    let stem = file_stem(name);
    let mut path = directory.join(format!("{stem}.{extension}"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    let mut alike = 1;
    loop {
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && alike < MOST_ALIKE => {
                alike += 1;
                path = directory.join(format!("{stem}~{alike}.{extension}"));
            }
            Err(error) => return Err(Error::io("create", &path)(error)),
            Ok(file) => return Ok((file, path)),
        }
    }
}
