//! Format `jsonl`: one append-only file with one record per line; each line is written by one call.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::line::append;
use crate::error::Error;
use crate::failing::locked;
use crate::record::TraceRecord;
use crate::record::layout::JSONL;

/// Appends lines to `trace.jsonl`.
pub(crate) struct Jsonl {
    path: PathBuf,
    lines: Mutex<Lines>,
}

/// The open file and how far it was written.
struct Lines {
    /// `None` while no session records.
    file: Option<File>,
    /// The file's metadata when it was closed.
    closed: Option<Metadata>,
    /// Length of the file in bytes after the last whole line.
    length: u64,
    /// A line was written in part and could not be removed: the next line must begin with a line break.
    torn: bool,
    /// Buffer for the line that is being written, kept to reuse its memory.
    line: Vec<u8>,
}

impl Jsonl {
    /// Creates the file. Fails if there is one already: it belongs to another program.
    pub(crate) fn create(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(JSONL);
        let file = create_new(&path)?;
        let lines = Lines { file: Some(file), closed: None, length: 0, torn: false, line: Vec::new() };
        Ok(Self { path, lines: Mutex::new(lines) })
    }

    /// Closes the file until the next line.
    pub(crate) fn close(&self) {
        let mut lines = locked(&self.lines);
        if let Some(file) = lines.file.take() {
            lines.closed = file.metadata().ok();
        }
    }

    /// Whether the file is open, so that the next line need not open it.
    pub(crate) fn is_open(&self) -> bool {
        locked(&self.lines).file.is_some()
    }

    /// Appends the record as one line in one write, and returns the range of bytes that the line takes in the
    /// file. A line that was written only in part is removed.
    pub(crate) fn write(&self, record: &TraceRecord) -> Result<Range<u64>, Error> {
        let mut lines = locked(&self.lines);
        let Lines { file, closed, length, torn, line } = &mut *lines;
        let file = if let Some(file) = file {
            file
        } else {
            let reopened = reopen(&self.path, closed.as_ref())?;
            *length = reopened.metadata().map_err(Error::io("read", &self.path))?.len();
            file.insert(reopened)
        };
        match state_of(file) {
            FileState::Deleted => return Err(Error::io("write", &self.path)(io::ErrorKind::NotFound.into())),
            // Another program may have added something.
            FileState::Length(bytes) => *length = bytes,
            FileState::Unknown => {}
        }
        line.clear();
        if *torn {
            line.push(b'\n');
        }
        append(line, record).map_err(|error| Error::io("write", &self.path)(error.into()))?;
        match file.write_all(line) {
            Ok(()) => {
                // The torn line lies between the last whole line and this one.
                *length = if *torn {
                    file.metadata().map_or(*length, |file| file.len())
                } else {
                    *length + line.len() as u64
                };
                *torn = false;
                // Counted from the end, because an extra line break may precede the line.
                Ok(length.saturating_sub(line.len() as u64)..*length)
            }
            Err(error) => {
                // Remove only what this call wrote: another process may have written the rest.
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

/// Opens the file again after it was closed, or creates it if it was deleted. Fails if another program put a file
/// in its place.
fn reopen(path: &Path, closed: Option<&Metadata>) -> Result<File, Error> {
    let foreign = || Error::io("open", path)(io::Error::other("it is not the file that this run wrote; move it away"));
    // Opening a pipe would block, and a link leads to another file.
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

/// Whether the file is the one that was closed, and at most grew. The inode number alone does not show it: systems
/// reuse the number of a deleted file, but the time of creation then differs.
fn is_same(before: &Metadata, now: &Metadata) -> bool {
    number(before) == number(now) && before.created().ok() == now.created().ok() && before.len() <= now.len()
}

#[cfg(unix)]
fn number(metadata: &Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    (metadata.dev(), metadata.ino())
}

/// The standard library gives no file number here.
#[cfg(not(unix))]
fn number(_: &Metadata) -> (u64, u64) {
    (0, 0)
}

/// The state of the open file, by the one system call that each line costs.
enum FileState {
    /// It was deleted: a line written to it would be lost.
    Deleted,
    Length(u64),
    Unknown,
}

#[cfg(unix)]
fn state_of(file: &File) -> FileState {
    use std::os::unix::fs::MetadataExt;
    match file.metadata() {
        Ok(metadata) if metadata.nlink() == 0 => FileState::Deleted,
        Ok(metadata) => FileState::Length(metadata.len()),
        Err(_) => FileState::Unknown,
    }
}

/// Other systems do not delete a file that is open.
#[cfg(not(unix))]
fn state_of(_: &File) -> FileState {
    FileState::Unknown
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::Jsonl;
    use crate::record::TraceRecord;

    #[test]
    fn the_range_of_a_line_leaves_out_what_another_program_added() {
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
