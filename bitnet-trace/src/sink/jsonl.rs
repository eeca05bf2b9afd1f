//! Format `jsonl`: one append-only file, one record a line, each written by one call.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::line::append;
use crate::error::Error;
use crate::paths::JSONL;
use crate::record::TraceRecord;

/// Appends lines to `trace.jsonl`.
pub(crate) struct Jsonl {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Bytes of whole lines.
    length: u64,
    /// A line could neither be written whole nor taken away again: the next one begins after it.
    torn: bool,
    /// The line in the making; kept for its memory.
    line: Vec<u8>,
}

impl Jsonl {
    /// Opens the file, or makes it.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(JSONL);
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io("create", &path))?;
        let length = file.metadata().map_err(Error::io("read", &path))?.len();
        Ok(Self { path, state: Mutex::new(State { file, length, torn: false, line: Vec::new() }) })
    }

    /// One line in one write. What could only be written in part is taken away again.
    pub(crate) fn write(&self, record: &TraceRecord) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { file, length, torn, line } = &mut *state;
        if deleted(file) {
            return Err(Error::io("write", &self.path)(io::ErrorKind::NotFound.into()));
        }
        line.clear();
        if *torn {
            line.push(b'\n');
        }
        append(line, record).map_err(|error| Error::io("write", &self.path)(error.into()))?;
        match file.write_all(line) {
            Ok(()) => {
                // What was torn before lies in between.
                *length = if *torn {
                    file.metadata().map_or(*length, |file| file.len())
                } else {
                    *length + line.len() as u64
                };
                *torn = false;
                Ok(())
            }
            Err(error) => {
                // Only what this call wrote: the rest may be another process's.
                let most = *length + line.len() as u64;
                let ours = file.metadata().is_ok_and(|file| (*length..=most).contains(&file.len()));
                *torn |= !ours || file.set_len(*length).is_err();
                Err(Error::io("write", &self.path)(error))
            }
        }
    }
}

/// Whether the file lost its name: what is written to it then is written nowhere.
#[cfg(unix)]
fn deleted(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    file.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
}

/// An open file cannot be deleted elsewhere.
#[cfg(not(unix))]
fn deleted(_: &File) -> bool {
    false
}
