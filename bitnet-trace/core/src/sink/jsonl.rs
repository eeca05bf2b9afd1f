//! Format `jsonl`: one append-only file, one record a line, each written by one call.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::record::TraceRecord;
use crate::record::layout::JSONL;

/// Appends lines to `trace.jsonl`.
pub(crate) struct Jsonl {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    /// `None` while nobody records.
    file: Option<File>,
    /// What was known of the file when it was closed.
    closed: Option<Metadata>,
    /// Bytes of whole lines.
    length: u64,
    /// A line could neither be written whole nor taken away again: the next one begins after it.
    torn: bool,
    /// The line in the making; kept for its memory.
    line: Vec<u8>,
}

impl Jsonl {
    /// Makes the file. One that somebody else put there is not written to.
    pub(crate) fn create(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(JSONL);
        let file = create_new(&path)?;
        let state = State { file: Some(file), closed: None, length: 0, torn: false, line: Vec::new() };
        Ok(Self { path, state: Mutex::new(state) })
    }

    /// Closes the file until the next line.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = state.file.take() {
            state.closed = file.metadata().ok();
        }
    }

    /// Whether the next line goes into a file that is open.
    pub(crate) fn is_open(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).file.is_some()
    }

    /// One line in one write; gives the bytes of the file that it takes. What could only be written in
    /// part is taken away again.
    pub(crate) fn write(&self, record: &TraceRecord) -> Result<Range<u64>, Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { file, closed, length, torn, line } = &mut *state;
        let file = if let Some(file) = file {
            file
        } else {
            let again = open_again(&self.path, closed.as_ref())?;
            *length = again.metadata().map_err(Error::io("read", &self.path))?.len();
            file.insert(again)
        };
        match known(file) {
            Known::Deleted => return Err(Error::io("write", &self.path)(io::ErrorKind::NotFound.into())),
            // What another program added counts, too.
            Known::Length(bytes) => *length = bytes,
            Known::Nothing => {}
        }
        line.clear();
        if *torn {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut *line, record).map_err(|error| Error::io("write", &self.path)(error.into()))?;
        line.push(b'\n');
        match file.write_all(line) {
            Ok(()) => {
                // What was torn before lies in between.
                *length = if *torn {
                    file.metadata().map_or(*length, |file| file.len())
                } else {
                    *length + line.len() as u64
                };
                *torn = false;
                // From the line's end: a line break may stand before it.
                Ok(length.saturating_sub(line.len() as u64)..*length)
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

fn create_new(path: &Path) -> Result<File, Error> {
    OpenOptions::new().create_new(true).append(true).open(path).map_err(Error::io("create", path))
}

/// Opens the file that was closed; makes it where it was deleted. Somebody else's is not written to.
fn open_again(path: &Path, closed: Option<&Metadata>) -> Result<File, Error> {
    let foreign = || Error::io("open", path)(io::Error::other("it is not the file that this run wrote; move it away"));
    // A pipe would be waited for, and a link leads elsewhere.
    match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return create_new(path),
        Err(error) => return Err(Error::io("open", path)(error)),
        Ok(there) if !there.is_file() => return Err(foreign()),
        Ok(_) => {}
    }
    let file = OpenOptions::new().append(true).open(path).map_err(Error::io("open", path))?;
    let opened = file.metadata().map_err(Error::io("read", path))?;
    if closed.is_none_or(|closed| is_same(closed, &opened)) { Ok(file) } else { Err(foreign()) }
}

/// Whether the file is the one from before: it only grew. The number of a deleted file is given out
/// again, the moment in which it was made is not.
fn is_same(before: &Metadata, now: &Metadata) -> bool {
    number(before) == number(now) && before.created().ok() == now.created().ok() && before.len() <= now.len()
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// The system tells none.
#[cfg(not(unix))]
fn number(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// What the system says of the open file, by the one question that each line asks.
enum Known {
    /// It lost its name: what is written to it then is written nowhere.
    Deleted,
    Length(u64),
    Nothing,
}

#[cfg(unix)]
fn known(file: &File) -> Known {
    use std::os::unix::fs::MetadataExt;
    match file.metadata() {
        Ok(metadata) if metadata.nlink() == 0 => Known::Deleted,
        Ok(metadata) => Known::Length(metadata.len()),
        Err(_) => Known::Nothing,
    }
}

/// An open file cannot be deleted elsewhere.
#[cfg(not(unix))]
fn known(_: &File) -> Known {
    Known::Nothing
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::Jsonl;
    use crate::record::TraceRecord;

    #[test]
    fn what_another_program_adds_is_in_no_range_of_ours() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("trace.jsonl");
        let json = r#"{"name":"x","shape":[1],"dtype":"F32","blake3":"00","rms":1,"num_elements":1}"#;
        let record: TraceRecord = serde_json::from_str(json).expect("a record");
        let jsonl = Jsonl::create(dir.path()).expect("made");
        for closes in [false, true, false] {
            if closes {
                jsonl.close();
            }
            let mut other = std::fs::OpenOptions::new().append(true).open(&path).expect("there");
            other.write_all(b"{\"of\": \"another\"}\n").expect("written");
            let range = jsonl.write(&record).expect("written");
            let bytes = std::fs::read(&path).expect("there");
            let line = bytes
                .get(usize::try_from(range.start).expect("small")..usize::try_from(range.end).expect("small"))
                .expect("inside");
            assert!(line.starts_with(b"{\"name\":") && line.ends_with(b"}\n"), "{range:?}");
        }
    }
}
