//! Reads a trace directory back into records.
//!
//! [`Trace`] holds the records of a run in execution order and gives access to their captured values. `pieces` finds
//! the files of a trace and splits them into one piece of JSON for each record. `values` reads captured values and
//! checks the header of their file first. Directories of this version, of older versions and of the earlier tracer can
//! be read. A damaged file or line becomes an entry of [`Trace::problems`], and the rest is read.
//!
//! This module imports `record` and `digest`, and nothing that captures, compares or reports.

mod manifest;
pub(crate) mod pieces;
pub(crate) mod values;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use values::Values;

use crate::error::Error;
use crate::record::filter::{Filter, Rest, SYNTAX, Subject};
pub use crate::record::{Function, Loss, Manifest};
use crate::record::{TraceRecord, parts_of};
use pieces::{MOST_PROBLEMS, ProcessDirectory, open, pieces, process_directories};
use values::read_values;

/// The records of a run, in execution order.
#[derive(Debug, Default)]
pub struct Trace {
    records: Vec<TraceRecord>,
    /// For each process: the index of its first record, and the number of the process.
    processes: Vec<(usize, usize)>,
    values: Captured,
    manifest: Option<Manifest>,
    problems: Vec<Error>,
}

/// Where the captured values are.
#[derive(Debug)]
enum Captured {
    /// In memory, by the `order` of the record.
    Memory(HashMap<u64, Values>),
    /// In files. The records hold their paths relative to this directory.
    Directory(PathBuf),
}

impl Default for Captured {
    fn default() -> Self {
        Self::Memory(HashMap::new())
    }
}

impl Trace {
    /// Reads a trace: a directory, a `.jsonl` file or a single `.trace` file.
    ///
    /// Of a directory it reads the `.trace` files, `trace.jsonl` and the directories of further processes. A file or
    /// a line that is not a record becomes an entry of [`problems`](Self::problems), and the rest is read.
    ///
    /// # Errors
    ///
    /// If the path cannot be read, or holds no record.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.is_file() {
            open(path)?;
            let mut trace = Self::read(path, path.parent().unwrap_or(Path::new("")));
            trace.read_manifest(path);
            return if trace.has_found_nothing() { Err(Error::NothingToRead(path.to_owned())) } else { Ok(trace) };
        }
        let mut trace = Self { values: Captured::Directory(path.to_owned()), ..Self::default() };
        trace.read_manifest(path);
        for ProcessDirectory { path: place, process } in process_directories(path)? {
            trace.processes.push((trace.records.len(), process));
            let mut other = Self::read_directory(&place);
            if place != path {
                // The paths of values are relative to the directory of the process.
                let name = place.file_name().unwrap_or_default().to_string_lossy();
                for record in &mut other.records {
                    record.values = record.values.take().map(|values| format!("{name}/{values}"));
                }
            }
            trace.records.append(&mut other.records);
            for problem in other.problems {
                trace.problem(problem);
            }
        }
        if trace.has_found_nothing() {
            return Err(Error::NothingToRead(path.to_owned()));
        }
        Ok(trace)
    }

    /// The records in execution order, process by process. Processes are sorted by rank if every process has one,
    /// else by process id. Records of the earlier tracer have no order; they come last, sorted by file name.
    #[must_use]
    pub fn records(&self) -> &[TraceRecord] {
        &self.records
    }

    /// The content of `run.json`. `None` if the trace is in memory, or if the file is missing or damaged; the records
    /// are read all the same.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    fn read_manifest(&mut self, path: &Path) {
        self.manifest = Manifest::open(path).ok().flatten();
    }

    /// The files and lines that could not be read, with the reason of each. Only the first 1,000 are kept.
    #[must_use]
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// The captured values of a record of this trace; `None` if its values were not captured.
    ///
    /// # Errors
    ///
    /// If the file of the values is missing or damaged, or its path leads out of the trace directory.
    pub fn values(&self, record: &TraceRecord) -> Result<Option<Values>, Error> {
        Ok(self.captured(record)?.map(Cow::into_owned))
    }

    /// Whether the values of a record were captured.
    pub(crate) fn has_values(&self, record: &TraceRecord) -> bool {
        match &self.values {
            Captured::Memory(values) => record.order.is_some_and(|order| values.contains_key(&order)),
            Captured::Directory(_) => record.values.is_some(),
        }
    }

    /// The captured values of a record. A trace in memory lends them, files are read.
    pub(crate) fn captured(&self, record: &TraceRecord) -> Result<Option<Cow<'_, Values>>, Error> {
        Ok(match &self.values {
            Captured::Memory(values) => record.order.and_then(|order| values.get(&order)).map(Cow::Borrowed),
            Captured::Directory(directory) => read_values(directory, record)?.map(Cow::Owned),
        })
    }

    /// The records that a filter takes, in execution order. The syntax is that of `BITNET_TRACE_FILTER`:
    /// `stage=attn_*,layer=0-3;stage=logits`. If a record has no stage, its stage, layer and step are taken from its
    /// name, as in a comparison.
    ///
    /// # Errors
    ///
    /// If the filter cannot be parsed.
    pub fn filtered(&self, filter: &str) -> Result<Vec<&TraceRecord>, Error> {
        let parsed = Filter::parse(filter).map_err(|reason| Error::Setting {
            setting: "filter",
            found: filter.to_owned(),
            reason: Some(reason),
            expected: SYNTAX,
        })?;
        let takes = |record: &&TraceRecord| {
            let io = record.io.as_deref();
            // The name of a weight is that of its model file: it does not follow the convention of stages. A gradient
            // has the name of its weight.
            let has_own_name = matches!(io, Some("weight" | "grad"));
            let stage = record.stage.as_deref().or(has_own_name.then_some(&*record.name));
            let parts = parts_of(&record.name, stage);
            let rest = Rest {
                name: &record.name,
                layer: record.layer_idx.or(parts.layer),
                seq: record.seq_index.or(parts.seq),
                request: record.request,
            };
            let io = io.or(parts.io).unwrap_or("out");
            parsed.accepts(&Subject { stage: Some(parts.stage), io, rest: Some(rest) }) == Some(true)
        };
        Ok(self.records.iter().filter(takes).collect())
    }

    fn problem(&mut self, problem: Error) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    /// The number of the process that made the record at this index.
    pub(crate) fn process_of(&self, index: usize) -> usize {
        let begun = self.processes.partition_point(|(first, _)| *first <= index);
        begun.checked_sub(1).map_or(0, |last| self.processes[last].1)
    }

    fn has_found_nothing(&self) -> bool {
        self.records.is_empty() && self.problems.is_empty()
    }

    fn sort(&mut self) {
        self.records.sort_by_key(|record| record.order.unwrap_or(u64::MAX));
    }

    /// Reads a `.jsonl` file, or the files of one directory without further processes. The paths of values are relative
    /// to `directory`.
    fn read(path: &Path, directory: &Path) -> Self {
        let mut trace = Self { values: Captured::Directory(directory.to_owned()), ..Self::default() };
        pieces(path, &mut |piece| match piece.and_then(|piece| piece.parse()) {
            Ok(record) => trace.records.push(record),
            Err(problem) => trace.problem(problem),
        });
        trace.sort();
        trace
    }

    /// Reads the files of one directory, without the directories of further processes.
    pub(crate) fn read_directory(directory: &Path) -> Self {
        Self::read(directory, directory)
    }
}

impl Trace {
    /// A trace of records that were read one by one from `directory`, and of the problems of reading them.
    pub(crate) fn of_records(directory: &Path, records: Vec<TraceRecord>, problems: Vec<Error>) -> Self {
        let values = Captured::Directory(directory.to_owned());
        let mut trace = Self { records, values, ..Self::default() };
        trace.read_manifest(directory);
        for problem in problems {
            trace.problem(problem);
        }
        trace.sort();
        trace
    }

    /// A trace of records that were never written to files.
    pub(crate) fn in_memory(recorded: Vec<(TraceRecord, Option<Values>)>) -> Self {
        let mut values = HashMap::new();
        let mut trace = Self::default();
        for (record, captured) in recorded {
            if let (Some(order), Some(captured)) = (record.order, captured) {
                values.insert(order, captured);
            }
            trace.records.push(record);
        }
        trace.values = Captured::Memory(values);
        trace.sort();
        trace
    }

    pub(crate) fn take_problems(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.problems)
    }
}
