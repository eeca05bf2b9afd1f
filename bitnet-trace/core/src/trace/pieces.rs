//! Finds the files of a trace and splits them into pieces: a piece is the JSON of one record.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memchr::memchr;
use serde_core::Deserialize;

use crate::error::Error;
use crate::record::TraceRecord;
use crate::record::layout::{
    JSONL, MANIFEST, OURS, SCHEMA, digits, entries, is_process_directory, is_record, process_number,
};
use crate::serial::impl_serde;

/// The largest record file and the longest line that is read, in bytes. A record takes about a kilobyte.
pub(crate) const LARGEST: u64 = 64 * 1024 * 1024;

/// How many bytes of a file are read at once.
const BUFFER: usize = 256 * 1024;

/// How many problems of reading are kept: a file that is not a trace may have any number of lines.
pub(crate) const MOST_PROBLEMS: usize = 1000;

/// A whole `.trace` file, or one line of a `.jsonl` file.
pub(crate) struct Piece<'a> {
    pub(crate) path: &'a Path,
    /// The number of the line, from 1; `None` for a whole file.
    line: Option<u64>,
    /// Where the piece begins in the file, in bytes.
    pub(crate) offset: u64,
    /// The JSON, without the line break.
    pub(crate) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Parses the JSON. The error names the file, the line and the column.
    pub(crate) fn parse<T: Deserialize<'a>>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.bytes).map_err(|error| damaged(self.path, self.line, &error.to_string()))
    }
}

fn damaged(path: &Path, line: Option<u64>, reason: &str) -> Error {
    let reason = line.map_or_else(|| reason.to_owned(), |line| format!("line {line}: {reason}"));
    Error::Damaged { path: path.to_owned(), reason }
}

/// Calls `each` for every piece of a `.jsonl` file, of a single `.trace` file, or of one directory: its `.trace` files
/// sorted by name, then the lines of `trace.jsonl`. A piece that cannot be read is passed on as an error, and the rest
/// is read.
pub(crate) fn pieces(path: &Path, each: &mut dyn FnMut(Result<Piece<'_>, Error>)) {
    let read = match path.is_file() {
        true if is_record(path) => return each_whole(path, each),
        true => lines(path, each),
        false => files(path, each),
    };
    if let Err(problem) = read {
        each(Err(problem));
    }
}

/// Calls `each` for a `.trace` file, which is one piece.
fn each_whole(path: &Path, each: &mut dyn FnMut(Result<Piece<'_>, Error>)) {
    match whole(path) {
        Ok(bytes) => each(Ok(Piece { path, line: None, offset: 0, bytes: &bytes })),
        Err(problem) => each(Err(problem)),
    }
}

fn files(directory: &Path, each: &mut dyn FnMut(Result<Piece<'_>, Error>)) -> Result<(), Error> {
    for path in entries(directory)?.iter().filter(|path| is_record(path)) {
        each_whole(path, each);
    }
    let jsonl = directory.join(JSONL);
    if jsonl.exists() { lines(&jsonl, each) } else { Ok(()) }
}

/// Reads the record of a `.trace` file.
pub(crate) fn whole_record(path: &Path) -> Result<TraceRecord, Error> {
    Piece { path, line: None, offset: 0, bytes: &whole(path)? }.parse()
}

/// Reads all bytes of a record file.
pub(crate) fn whole(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    open(path)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > LARGEST {
        return Err(damaged(path, None, &format!("larger than {LARGEST} bytes")));
    }
    Ok(bytes)
}

/// Calls `each` for every line that is not empty.
fn lines(path: &Path, each: &mut dyn FnMut(Result<Piece<'_>, Error>)) -> Result<(), Error> {
    lines_of(BufReader::with_capacity(BUFFER, open(path)?), path, each)
}

/// Calls `each` for every line in a range of bytes of a file. Lines are counted from the start of the range.
pub(crate) fn lines_within(path: &Path, bytes: Range<u64>, each: &mut dyn FnMut(Result<Piece<'_>, Error>)) {
    let read = open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(bytes.start)).map_err(Error::io("read", path))?;
        lines_of(BufReader::new(file.take(bytes.end - bytes.start)), path, each)
    });
    if let Err(problem) = read {
        each(Err(problem));
    }
}

/// Calls `each` for every line that is not empty. Memory is bounded however long the lines are.
fn lines_of(
    mut reader: impl BufRead,
    path: &Path,
    each: &mut dyn FnMut(Result<Piece<'_>, Error>),
) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let mut offset = 0;
    for line in 1.. {
        let buffered = reader.fill_buf().map_err(Error::io("read", path))?;
        if let Some(end) = memchr(b'\n', buffered) {
            if end > 0 {
                each(Ok(Piece { path, line: Some(line), offset, bytes: &buffered[..end] }));
            }
            reader.consume(end + 1);
            offset += end as u64 + 1;
            continue;
        }
        bytes.clear();
        let read = reader.by_ref().take(LARGEST).read_until(b'\n', &mut bytes).map_err(Error::io("read", path))? as u64;
        if read == 0 {
            break;
        }
        let whole = bytes.pop_if(|last| *last == b'\n').is_some();
        if !whole && read == LARGEST {
            each(Err(damaged(path, Some(line), &format!("longer than {LARGEST} bytes"))));
            offset += skip_line(&mut reader).map_err(Error::io("read", path))?;
        } else if !bytes.is_empty() {
            each(Ok(Piece { path, line: Some(line), offset, bytes: &bytes }));
        }
        offset += read;
    }
    Ok(())
}

/// Opens a regular file: a pipe of that name would be waited for.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::Damaged { path: path.to_owned(), reason: "not a regular file".to_owned() });
    }
    File::open(path).map_err(Error::io("read", path))
}

/// Skips the rest of a line that is too long to keep, and returns how many bytes were skipped.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut whole = 0;
    loop {
        let available = reader.fill_buf()?;
        let end = available.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let (skipped, done) = (end.unwrap_or(available.len()), end.is_some() || available.is_empty());
        reader.consume(skipped);
        whole += skipped as u64;
        if done {
            return Ok(whole);
        }
    }
}

/// A directory with the records of one process.
pub(crate) struct ProcessDirectory {
    pub(crate) path: PathBuf,
    /// The number of the process. Records are compared with those of the process that has the same number on the other
    /// side.
    pub(crate) process: usize,
}

/// The directories that hold the records of a trace: the directory itself, the directories of further processes in it
/// and, if it holds no records itself, the directories of ranks, whose names are numbers.
///
/// If every process has a rank, the rank is its number. Else the processes are numbered in the order of their
/// directories.
pub(crate) fn process_directories(directory: &Path) -> Result<Vec<ProcessDirectory>, Error> {
    let inside = entries(directory)?;
    let rank_of = |path: &Path| path.file_name().and_then(|name| digits(name.to_str()?));
    let holds_records = inside.iter().any(|path| is_record(path)) || directory.join(JSONL).exists();
    let mut processes: Vec<_> = inside.iter().filter(|path| is_process_directory(path)).cloned().collect();
    processes.sort_by_key(|path| process_number(path));
    let mut paths = vec![directory.to_owned()];
    paths.append(&mut processes);
    if !holds_records {
        let mut ranks: Vec<_> = inside.into_iter().filter(|path| rank_of(path).is_some() && path.is_dir()).collect();
        ranks.sort_by_key(|path| rank_of(path));
        paths.append(&mut ranks);
    }
    paths.iter().try_for_each(|place| check_schema(place))?;
    Ok(numbered(paths, holds_records))
}

fn numbered(paths: Vec<PathBuf>, holds_records: bool) -> Vec<ProcessDirectory> {
    // A directory that only holds the directories of ranks has no rank itself.
    let is_empty = |path: &PathBuf| *path == paths[0] && !holds_records && !path.join(MANIFEST).exists();
    let ranks: Option<Vec<u64>> =
        paths.iter().filter(|path| !is_empty(path)).map(|path| manifest_of(path)["rank"].as_u64()).collect();
    let distinct = |ranks: &Vec<u64>| ranks.len() > 1 && ranks.iter().collect::<BTreeSet<_>>().len() == ranks.len();
    let Some(mut ranks) = ranks.filter(distinct) else {
        return paths.into_iter().enumerate().map(|(process, path)| ProcessDirectory { path, process }).collect();
    };
    if ranks.len() < paths.len() {
        // Records that appear there before it is read belong to no rank.
        ranks.insert(0, u64::MAX);
    }
    let mut places: Vec<_> = paths
        .into_iter()
        .zip(ranks)
        .map(|(path, rank)| ProcessDirectory { path, process: usize::try_from(rank).unwrap_or(usize::MAX) })
        .collect();
    places.sort_by_key(|place| place.process);
    places
}

/// The content of the `run.json` of a trace; null if there is no such file, or it is not JSON.
pub(crate) fn manifest_of(path: impl AsRef<Path>) -> serde_json::Value {
    let path = path.as_ref();
    let directory = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
    let mut json = Vec::new();
    let read = open(&directory.join(MANIFEST)).ok().and_then(|file| file.take(LARGEST).read_to_end(&mut json).ok());
    read.and_then(|_| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// Refuses the run of a later format: it is not read as if it were of this one. A `run.json` of another program says
/// nothing about the records beside it.
fn check_schema(directory: &Path) -> Result<(), Error> {
    struct Schema {
        schema: Option<String>,
    }

    impl_serde! { Deserialize for Schema { schema [default] } }
    let path = directory.join(MANIFEST);
    let Ok(file) = open(&path) else { return Ok(()) };
    let mut json = Vec::new();
    file.take(LARGEST).read_to_end(&mut json).map_err(Error::io("read", &path))?;
    match serde_json::from_slice::<Schema>(&json) {
        Ok(Schema { schema: Some(found) }) if found != SCHEMA && found.starts_with(OURS) => {
            Err(Error::Schema { path, found })
        }
        // The records are read even if run.json is damaged.
        _ => Ok(()),
    }
}
