//! From one format of a trace to another.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Component, Path};

use serde_json::Value;

use crate::error::Error;
use crate::name::file_stem;
use crate::paths::{JSONL, MANIFEST};
use crate::read::{Trace, manifest_of};
use crate::record::TraceRecord;
use crate::table;

/// What a trace is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// A directory with one `.trace` file a record.
    Files,
    /// A directory with one line a record in `trace.jsonl`.
    Jsonl,
    /// A table, a row a record, as comma-separated text.
    Csv,
    /// The same table as Apache Parquet, its columns of type `INT64`, `DOUBLE` and text.
    Parquet,
}

/// Writes a trace in another format: `files` and `jsonl` keep everything, captured values and
/// `run.json` included. Gives the number of records.
///
/// # Errors
///
/// If the source cannot be read or is damaged, the destination is there already, or cannot be written.
pub fn convert(source: impl AsRef<Path>, destination: impl AsRef<Path>, format: TraceFormat) -> Result<usize, Error> {
    let (source, destination) = (source.as_ref(), destination.as_ref());
    let trace = Trace::open(source)?;
    if let Some(problem) = trace.problems().first() {
        // Half a trace under a new name would be taken for a whole one.
        return Err(Error::Damaged { path: source.to_owned(), reason: problem.to_string() });
    }
    let occupied = fs::read_dir(destination).map_or(destination.exists(), |mut entries| entries.next().is_some());
    if occupied {
        return Err(Error::io("write", destination)(std::io::ErrorKind::AlreadyExists.into()));
    }
    if let TraceFormat::Csv | TraceFormat::Parquet = format {
        let write = if format == TraceFormat::Csv { table::write_csv } else { table::write_parquet };
        write(trace.records(), destination)?;
        return Ok(trace.records().len());
    }
    fs::create_dir_all(destination).map_err(Error::io("create", destination))?;
    let from = if source.is_file() { source.parent().unwrap_or(Path::new("")) } else { source };
    for record in trace.records() {
        copy_values(from, destination, record)?;
    }
    if format == TraceFormat::Files {
        write_files(&trace, destination)?;
    } else {
        write_lines(&trace, destination)?;
    }
    let mut run = manifest_of(from);
    if let Value::Object(run) = &mut run {
        run.insert("format".to_owned(), if format == TraceFormat::Files { "files" } else { "jsonl" }.into());
        let path = destination.join(MANIFEST);
        let json = serde_json::to_vec_pretty(&run).map_err(|error| Error::io("write", &path)(error.into()))?;
        fs::write(&path, json).map_err(Error::io("write", &path))?;
    }
    Ok(trace.records().len())
}

fn copy_values(from: &Path, to: &Path, record: &TraceRecord) -> Result<(), Error> {
    let Some(file) = &record.values else { return Ok(()) };
    let source = from.join(file);
    if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
        let reason = format!("{file:?} is not a path inside the trace directory");
        return Err(Error::Damaged { path: source, reason });
    }
    let destination = to.join(file);
    if let Some(parent) = destination.parent() {
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    }
    fs::copy(&source, &destination).map(|_| ()).map_err(Error::io("copy", source))
}

fn write_files(trace: &Trace, directory: &Path) -> Result<(), Error> {
    let mut taken = HashSet::new();
    for record in trace.records() {
        let stem = file_stem(&record.name);
        let mut name = stem.clone();
        let mut number = 1;
        // Some file systems do not tell capitals apart.
        while !taken.insert(name.to_lowercase()) {
            number += 1;
            name = format!("{stem}~{number}");
        }
        let path = directory.join(format!("{name}.trace"));
        let json = serde_json::to_vec_pretty(record).map_err(|error| Error::io("write", &path)(error.into()))?;
        fs::write(&path, json).map_err(Error::io("write", &path))?;
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
