//! From one format of a trace to another.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Read, Seek, Write};
use std::path::Path;

use serde_json::Value;

use crate::trace::values::{CapturedFile, open_captured};
use crate::error::Error;
use crate::sink::file_stem;
use crate::record::layout::{JSONL, MANIFEST, is_record};
use crate::trace::pieces::{Place, manifest_of, places};
use crate::trace::Trace;
use crate::record::TraceRecord;

/// How the records of a trace directory are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceFormat {
    /// One `.trace` file a record.
    Files,
    /// One line a record in `trace.jsonl`.
    Jsonl,
}

/// Writes a trace in another format: everything is kept, captured values, `run.json` and the directories
/// of further processes included. Gives the number of records.
///
/// # Errors
///
/// If the source cannot be read or is damaged, the destination is there already, or cannot be written.
pub fn convert(source: impl AsRef<Path>, destination: impl AsRef<Path>, format: TraceFormat) -> Result<usize, Error> {
    let (source, destination) = (source.as_ref(), destination.as_ref());
    let trace = open_whole(source)?;
    let occupied = fs::read_dir(destination).map_or(destination.exists(), |mut entries| entries.next().is_some());
    if occupied {
        return Err(Error::io("write", destination)(ErrorKind::AlreadyExists.into()));
    }
    if source.is_file() {
        let around = source.parent().unwrap_or(Path::new(""));
        // One record is not the run that its `run.json` tells of.
        let write = if is_record(source) { write_records } else { write_run };
        write(around, &trace, destination, format)?;
        return Ok(trace.records().len());
    }
    for Place { path: place, .. } in places(source)? {
        let run = whole(Trace::read_directory(&place), &place)?;
        if !run.records().is_empty() || place.join(MANIFEST).exists() {
            // Each process counts its own order and has its own run.json.
            let inside = place.strip_prefix(source).unwrap_or(Path::new(""));
            write_run(&place, &run, &destination.join(inside), format)?;
        }
    }
    Ok(trace.records().len())
}

/// Opens a trace of which everything can be read.
///
/// # Errors
///
/// If the source cannot be read, or any of it is damaged.
pub fn open_whole(source: impl AsRef<Path>) -> Result<Trace, Error> {
    let source = source.as_ref();
    whole(Trace::open(source)?, source)
}

/// Half a trace under a new name would be taken for a whole one.
fn whole(trace: Trace, source: &Path) -> Result<Trace, Error> {
    match trace.problems().first() {
        Some(problem) => Err(Error::Damaged { path: source.to_owned(), reason: problem.full() }),
        None => Ok(trace),
    }
}

/// One process's records, values and `run.json`, which comes last: a directory that has it is whole.
fn write_run(from: &Path, trace: &Trace, to: &Path, format: TraceFormat) -> Result<(), Error> {
    write_records(from, trace, to, format)?;
    let Value::Object(mut run) = manifest_of(from) else { return Ok(()) };
    run.insert("format".to_owned(), if format == TraceFormat::Files { "files" } else { "jsonl" }.into());
    let path = to.join(MANIFEST);
    let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
    let json = serde_json::to_vec_pretty(&run).map_err(|error| Error::io("write", &path)(error.into()))?;
    file.write_all(&json).map_err(Error::io("write", &path))
}

/// Records and their values.
fn write_records(from: &Path, trace: &Trace, to: &Path, format: TraceFormat) -> Result<(), Error> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    let mut copied = HashSet::new();
    for record in trace.records() {
        if let Some(file) = &record.values
            && copied.insert(file)
        {
            copy_values(from, &to.join(file), record)?;
        }
    }
    if format == TraceFormat::Files { write_files(trace, to) } else { write_lines(trace, to) }
}

/// A regular file inside the trace, whose header agrees with the record: as many bytes as it has.
fn copy_values(from: &Path, to: &Path, record: &TraceRecord) -> Result<(), Error> {
    let Some(CapturedFile { path, mut file, length, .. }) = open_captured(from, record)? else { return Ok(()) };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    let mut copy = File::create_new(to).map_err(Error::io("create", to))?;
    file.rewind().map_err(Error::io("read", &path))?;
    let bytes = io::copy(&mut file.take(length), &mut copy).map_err(Error::io("copy", &path))?;
    if bytes != length {
        return Err(Error::Values { path, reason: format!("it ended after {bytes} of {length} bytes") });
    }
    Ok(())
}

fn write_files(trace: &Trace, directory: &Path) -> Result<(), Error> {
    let mut taken = HashSet::new();
    // How often a stem came: counting from 1 each time is quadratic in the names that are alike.
    let mut alike = HashMap::new();
    for record in trace.records() {
        let stem = file_stem(&record.name);
        // Some file systems do not tell capitals apart.
        let number = alike.entry(stem.to_lowercase()).or_insert(0usize);
        let name = loop {
            *number += 1;
            let name = if *number == 1 { stem.clone() } else { format!("{stem}~{number}") };
            if taken.insert(name.to_lowercase()) {
                break name;
            }
        };
        let path = directory.join(format!("{name}.trace"));
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let json = serde_json::to_vec_pretty(record).map_err(|error| Error::io("write", &path)(error.into()))?;
        file.write_all(&json).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

fn write_lines(trace: &Trace, directory: &Path) -> Result<(), Error> {
    let path = directory.join(JSONL);
    let mut file = BufWriter::new(File::create_new(&path).map_err(Error::io("create", &path))?);
    for record in trace.records() {
        let line = serde_json::to_vec(record).map_err(|error| Error::io("write", &path)(error.into()))?;
        file.write_all(&line).and_then(|()| file.write_all(b"\n")).map_err(Error::io("write", &path))?;
    }
    file.flush().map_err(Error::io("write", &path))
}
