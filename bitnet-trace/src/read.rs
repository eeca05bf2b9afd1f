//! From a trace directory back to records.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::filter::{Filter, Rest, SYNTAX, Subject};
use crate::paths::{JSONL, MANIFEST, SCHEMA, entries, is_process_directory};
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
        for place in places(path)?.iter().skip(1) {
            let mut other = match Self::read_directory(place) {
                Ok(other) => other,
                Err(problem) => {
                    trace.problem(problem);
                    continue;
                }
            };
            // Values are named from where the records lie.
            let name = place.file_name().unwrap_or_default().to_string_lossy();
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
        captured(directory, record)
    }

    /// The records that a filter takes, in execution order; the words are those of
    /// `BITNET_TRACE_FILTER`: `stage=attn_*,layer=0-3;stage=logits`.
    ///
    /// # Errors
    ///
    /// If the filter cannot be understood.
    pub fn filtered(&self, filter: &str) -> Result<Vec<&TraceRecord>, Error> {
        let parsed = Filter::parse(filter).map_err(|reason| Error::Setting {
            setting: "filter",
            found: filter.to_owned(),
            reason: Some(reason),
            expected: SYNTAX,
        })?;
        let takes = |record: &&TraceRecord| {
            let rest =
                Rest { name: &record.name, layer: record.layer_idx, seq: record.seq_index, request: record.request };
            let io = record.io.as_deref().unwrap_or("out");
            parsed.accepts(&Subject { stage: record.stage.as_deref(), io, rest: Some(rest) }) == Some(true)
        };
        Ok(self.records.iter().filter(takes).collect())
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
        lines(path, |Line { number, bytes, .. }| {
            let record = bytes.and_then(|bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string()));
            match record {
                Ok(record) => self.records.push(record),
                Err(reason) => self.problem(damaged_line(path, number, &reason)),
            }
        })
    }

    /// The files of one directory alone.
    pub(crate) fn read_directory(directory: &Path) -> Result<Self, Error> {
        let mut trace = Self::beside(directory);
        for path in entries(directory)? {
            if is_record(&path) {
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

/// The captured tensor of a record that lies in `directory`.
pub(crate) fn captured(directory: &Path, record: &TraceRecord) -> Result<Option<Tensor>, Error> {
    let Some(Captured { path, file, most }) = open_captured(directory, record)? else { return Ok(None) };
    let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
    if bytes.len() as u64 > most {
        return Err(damaged(format!("more than {most} bytes for {} elements", record.num_elements)));
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
    let mut tensors = tensors.map_err(|error| damaged(error.to_string()))?.into_values();
    match (tensors.next(), tensors.next()) {
        (Some(tensor), None) if tensor.dims() == record.shape => Ok(Some(tensor)),
        (Some(tensor), None) => {
            Err(damaged(format!("the values have shape {:?}, their record says {:?}", tensor.dims(), record.shape)))
        }
        _ => Err(damaged("expected one tensor".to_owned())),
    }
}

/// The file of a record's captured values.
pub(crate) struct Captured {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// No more bytes can be the record's.
    pub(crate) most: u64,
}

/// Opens the file of the values of a record that lies in `directory`: a regular file inside it.
pub(crate) fn open_captured(directory: &Path, record: &TraceRecord) -> Result<Option<Captured>, Error> {
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
    Ok(Some(Captured { path, file, most }))
}

/// Where the records of a trace lie: the directory itself, those of further processes in it, and, if
/// it holds no records itself, those of ranks, which are called by their numbers.
pub(crate) fn places(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let inside = entries(directory)?;
    let is_rank = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) && path.is_dir()
    };
    let holds_records = inside.iter().any(|path| is_record(path)) || directory.join(JSONL).exists();
    let mut places = vec![directory.to_owned()];
    places.extend(inside.iter().filter(|path| is_process_directory(path)).cloned());
    if !holds_records {
        let mut ranks: Vec<_> = inside.into_iter().filter(is_rank).collect();
        ranks.sort_by_key(|path| {
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse::<u64>().ok())
        });
        places.extend(ranks);
    }
    places.iter().try_for_each(|place| check_schema(place))?;
    Ok(places)
}

/// What `run.json` of a trace says; null where there is none, or it is no JSON.
#[must_use]
pub fn manifest_of(path: impl AsRef<Path>) -> serde_json::Value {
    let path = path.as_ref();
    let directory = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
    let mut json = Vec::new();
    let read = open(&directory.join(MANIFEST)).ok().and_then(|file| file.take(LARGEST).read_to_end(&mut json).ok());
    read.and_then(|_| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// `.trace` files are records.
pub(crate) fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "trace")
}

/// A run of a later format is not read as if it were of this one.
fn check_schema(directory: &Path) -> Result<(), Error> {
    #[derive(serde::Deserialize)]
    struct Schema {
        schema: Option<String>,
    }
    let path = directory.join(MANIFEST);
    let Ok(file) = open(&path) else { return Ok(()) };
    let mut json = Vec::new();
    file.take(LARGEST).read_to_end(&mut json).map_err(Error::io("read", &path))?;
    match serde_json::from_slice::<Schema>(&json) {
        Ok(Schema { schema: Some(found) }) if found != SCHEMA => Err(Error::Schema { path, found }),
        // A damaged run.json takes no records with it.
        _ => Ok(()),
    }
}

/// A line of a file.
pub(crate) struct Line<'a> {
    /// From 1.
    pub(crate) number: u64,
    /// Where it begins, in bytes.
    pub(crate) offset: u64,
    /// Without its end; or what is wrong with it.
    pub(crate) bytes: Result<&'a [u8], String>,
}

/// Goes through the lines that are not empty. Lines of any length take bounded memory.
pub(crate) fn lines(path: &Path, mut each: impl FnMut(Line<'_>)) -> Result<(), Error> {
    let mut reader = BufReader::with_capacity(1 << 16, open(path)?);
    let mut line = Vec::new();
    let mut offset = 0;
    for number in 1.. {
        line.clear();
        let read = reader.by_ref().take(LARGEST).read_until(b'\n', &mut line).map_err(Error::io("read", path))? as u64;
        if read == 0 {
            break;
        }
        let whole = line.pop_if(|last| *last == b'\n').is_some();
        let begin = offset;
        offset += read;
        if !whole && read == LARGEST {
            each(Line { number, offset: begin, bytes: Err(format!("longer than {LARGEST} bytes")) });
            offset += skip_line(&mut reader).map_err(Error::io("read", path))?;
        } else if !line.is_empty() {
            each(Line { number, offset: begin, bytes: Ok(&line) });
        }
    }
    Ok(())
}

/// What is wrong with a line.
pub(crate) fn damaged_line(path: &Path, number: u64, reason: &str) -> Error {
    Error::Damaged { path: path.to_owned(), reason: format!("line {number}: {reason}") }
}

/// Opens a regular file: a pipe of that name would be waited for.
pub(crate) fn open(path: &Path) -> Result<File, Error> {
    let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        return Err(Error::Damaged { path: path.to_owned(), reason: "not a regular file".to_owned() });
    }
    File::open(path).map_err(Error::io("read", path))
}

/// To the end of a line that is too long to keep; how many bytes that were.
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

pub(crate) fn read_record(path: &Path) -> Result<TraceRecord, Error> {
    let damaged = |reason: String| Error::Damaged { path: PathBuf::from(path), reason };
    let mut json = Vec::new();
    open(path)?.take(LARGEST + 1).read_to_end(&mut json).map_err(Error::io("read", path))?;
    if json.len() as u64 > LARGEST {
        return Err(damaged(format!("larger than {LARGEST} bytes")));
    }
    serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))
}
