//! From a trace directory back to records.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::paths::{JSONL, entries, is_process_directory};
use crate::record::TraceRecord;
#[cfg(feature = "trace")]
use crate::session::Orders;

/// Largest record file that is read; a record takes about a kilobyte.
const LARGEST: u64 = 64 * 1024 * 1024;

/// Most problems that are kept: a file that is none of ours may have any number of lines.
const MOST_PROBLEMS: usize = 1000;

/// What a safetensors file of one tensor has beside the data, and more.
const HEADER: u64 = 64 * 1024;

/// Bytes of the widest type.
const WIDEST: u64 = 8;

/// The records of a run, in execution order.
#[derive(Debug, Default)]
pub struct Trace {
    records: Vec<TraceRecord>,
    values: Values,
    problems: Vec<Error>,
}

/// Where captured tensors are.
#[derive(Debug)]
enum Values {
    /// By the record's order.
    Memory(HashMap<u64, Tensor>),
    /// In files, named by the records relative to this directory.
    Directory(PathBuf),
}

impl Default for Values {
    fn default() -> Self {
        Self::Memory(HashMap::new())
    }
}

impl Trace {
    /// Reads a directory, `.trace` files and `trace.jsonl`, and the directories of further processes
    /// in it; or one `.jsonl` file.
    ///
    /// A file or line that is not a record is named in [`problems`](Self::problems); the rest is
    /// read.
    ///
    /// # Errors
    ///
    /// If the path cannot be read, or holds no record.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.is_file() {
            let mut trace = Self::beside(path.parent().unwrap_or(Path::new("")));
            trace.read_lines(path)?;
            trace.sort();
            return if trace.is_nothing() { Err(Error::NothingToRead(path.to_owned())) } else { Ok(trace) };
        }
        let mut trace = Self::read_directory(path)?;
        for process in entries(path)?.iter().filter(|path| is_process_directory(path)) {
            let mut other = match Self::read_directory(process) {
                Ok(other) => other,
                Err(problem) => {
                    trace.problem(problem);
                    continue;
                }
            };
            // Values are named from where the records lie.
            let name = process.file_name().unwrap_or_default().to_string_lossy();
            for record in &mut other.records {
                record.values = record.values.take().map(|values| format!("{name}/{values}"));
            }
            trace.records.append(&mut other.records);
            other.problems.into_iter().for_each(|problem| trace.problem(problem));
        }
        if trace.is_nothing() {
            return Err(Error::NothingToRead(path.to_owned()));
        }
        Ok(trace)
    }

    /// The records, in execution order. Those of the earlier tracer know none and come last, by
    /// file name.
    #[must_use]
    pub fn records(&self) -> &[TraceRecord] {
        &self.records
    }

    /// Files and lines that could not be read, each with its reason; the first 1,000 of them.
    #[must_use]
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// The captured tensor of a record of this trace; none where values were not asked for.
    ///
    /// # Errors
    ///
    /// If the file of the values is missing, damaged, or would lie outside the trace directory.
    pub fn values(&self, record: &TraceRecord) -> Result<Option<Tensor>, Error> {
        let directory = match &self.values {
            Values::Memory(values) => return Ok(record.order.and_then(|order| values.get(&order).cloned())),
            Values::Directory(directory) => directory,
        };
        let Some(file) = &record.values else { return Ok(None) };
        let path = directory.join(file);
        let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
        if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(damaged(format!("{file:?} is not a path inside the trace directory")));
        }
        // A link may lead out of the directory.
        let inside = |path: &Path| path.canonicalize().map_err(Error::io("read", path));
        if !inside(&path)?.starts_with(inside(directory)?) {
            return Err(damaged("leads out of the trace directory".to_owned()));
        }
        let file = open(&path)?;
        let most = (record.num_elements as u64).saturating_mul(WIDEST).saturating_add(HEADER);
        let mut bytes = Vec::new();
        file.take(most + 1).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        if bytes.len() as u64 > most {
            return Err(damaged(format!("more than {most} bytes for {} elements", record.num_elements)));
        }
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
        let mut tensors = tensors.map_err(|error| damaged(error.to_string()))?.into_values();
        match (tensors.next(), tensors.next()) {
            (Some(tensor), None) => Ok(Some(tensor)),
            _ => Err(damaged("expected one tensor".to_owned())),
        }
    }

    fn problem(&mut self, problem: Error) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// Empty, with its values in files beside this directory's records.
    fn beside(directory: &Path) -> Self {
        Self { values: Values::Directory(directory.to_owned()), ..Self::default() }
    }

    fn is_nothing(&self) -> bool {
        self.records.is_empty() && self.problems.is_empty()
    }

    fn sort(&mut self) {
        self.records.sort_by_key(|record| record.order.unwrap_or(u64::MAX));
    }

    /// One record a line; a line that is none is named by its number.
    fn read_lines(&mut self, path: &Path) -> Result<(), Error> {
        let mut reader = BufReader::new(open(path)?);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = reader.by_ref().take(LARGEST).read_until(b'\n', &mut line).map_err(Error::io("read", path))?;
            if read == 0 {
                break;
            }
            let whole = line.pop_if(|last| *last == b'\n').is_some();
            let mut problem = |reason: String| {
                let reason = format!("line {number}: {reason}");
                self.problem(Error::Damaged { path: path.to_owned(), reason });
            };
            if !whole && read as u64 == LARGEST {
                problem(format!("longer than {LARGEST} bytes"));
                skip_line(&mut reader).map_err(Error::io("read", path))?;
            } else if !line.is_empty() {
                match serde_json::from_slice(&line) {
                    Ok(record) => self.records.push(record),
                    Err(error) => problem(error.to_string()),
                }
            }
        }
        Ok(())
    }

    /// The files of one directory alone.
    fn read_directory(directory: &Path) -> Result<Self, Error> {
        let mut trace = Self::beside(directory);
        for path in entries(directory)? {
            if path.extension().is_some_and(|extension| extension == "trace") {
                match read_record(&path) {
                    Ok(record) => trace.records.push(record),
                    Err(problem) => trace.problem(problem),
                }
            }
        }
        let lines = directory.join(JSONL);
        if lines.exists()
            && let Err(problem) = trace.read_lines(&lines)
        {
            trace.problem(problem);
        }
        trace.sort();
        Ok(trace)
    }
}

/// Opens a regular file: a pipe of that name would be waited for.
fn open(path: &Path) -> Result<File, Error> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::Damaged { path: path.to_owned(), reason: "not a regular file".to_owned() });
    }
    File::open(path).map_err(Error::io("read", path))
}

/// To the end of a line that is too long to keep.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let available = reader.fill_buf()?;
        let end = available.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let (skipped, done) = (end.unwrap_or(available.len()), end.is_some() || available.is_empty());
        reader.consume(skipped);
        if done {
            return Ok(());
        }
    }
}

#[cfg(feature = "trace")]
impl Trace {
    /// The records with these orders of the run in `directory`.
    /// Others may be writing: what is damaged counts only if one of these is missing.
    pub(crate) fn of_run(directory: &Path, orders: &Orders) -> Result<Self, Error> {
        let mut trace = Self::read_directory(directory)?;
        trace.records.retain(|record| record.order.is_some_and(|order| orders.contains(order)));
        if trace.records.len() as u64 == orders.len() {
            trace.problems.clear();
        }
        Ok(trace)
    }

    pub(crate) fn in_memory(recorded: Vec<(TraceRecord, Option<Tensor>)>) -> Self {
        let mut values = HashMap::new();
        let mut trace = Self::default();
        for (record, tensor) in recorded {
            if let (Some(order), Some(tensor)) = (record.order, tensor) {
                values.insert(order, tensor);
            }
            trace.records.push(record);
        }
        trace.values = Values::Memory(values);
        trace.sort();
        trace
    }

    pub(crate) fn take_problems(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.problems)
    }
}

fn read_record(path: &Path) -> Result<TraceRecord, Error> {
    let damaged = |reason: String| Error::Damaged { path: PathBuf::from(path), reason };
    let mut json = Vec::new();
    open(path)?.take(LARGEST + 1).read_to_end(&mut json).map_err(Error::io("read", path))?;
    if json.len() as u64 > LARGEST {
        return Err(damaged(format!("larger than {LARGEST} bytes")));
    }
    serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))
}
