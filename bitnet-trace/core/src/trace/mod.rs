//! From a trace directory, of this version or an older one, back to records.

mod manifest;
pub(crate) mod pieces;
pub(crate) mod values;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub use values::Values;

use crate::error::Error;
use crate::record::filter::{Filter, Rest, SYNTAX, Subject};
use crate::record::{TraceRecord, parts_of};
pub use crate::record::{Function, Loss, Manifest};
use pieces::{MOST_PROBLEMS, Place, open, pieces, places};
use values::read_values;

/// The records of a run, in execution order.
#[derive(Debug, Default)]
pub struct Trace {
    records: Vec<TraceRecord>,
    /// Where the records of each process begin, and its number.
    processes: Vec<(usize, usize)>,
    values: Captured,
    manifest: Option<Manifest>,
    problems: Vec<Error>,
}

/// Where captured values are.
#[derive(Debug)]
enum Captured {
    /// By the record's order.
    Memory(HashMap<u64, Values>),
    /// In files, named by the records relative to this directory.
    Directory(PathBuf),
}

impl Default for Captured {
    fn default() -> Self {
        Self::Memory(HashMap::new())
    }
}

impl Trace {
    /// Reads a directory, `.trace` files and `trace.jsonl`, and the directories of further processes
    /// in it; or one `.jsonl` file; or the record of one `.trace` file.
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
            open(path)?;
            let mut trace = Self::read(path, path.parent().unwrap_or(Path::new("")));
            trace.read_manifest(path);
            return if trace.is_nothing() { Err(Error::NothingToRead(path.to_owned())) } else { Ok(trace) };
        }
        let mut trace = Self { values: Captured::Directory(path.to_owned()), ..Self::default() };
        trace.read_manifest(path);
        for Place { path: place, process } in places(path)? {
            trace.processes.push((trace.records.len(), process));
            let mut other = Self::read_directory(&place);
            if place != path {
                // Values are named from where the records lie.
                let name = place.file_name().unwrap_or_default().to_string_lossy();
                for record in &mut other.records {
                    record.values = record.values.take().map(|values| format!("{name}/{values}"));
                }
            }
            trace.records.append(&mut other.records);
            other.problems.into_iter().for_each(|problem| trace.problem(problem));
        }
        if trace.is_nothing() {
            return Err(Error::NothingToRead(path.to_owned()));
        }
        Ok(trace)
    }

    /// The records, in execution order, process by process: by rank where every process says its own,
    /// else by process id. Those of the earlier tracer know no order and come last, by file name.
    #[must_use]
    pub fn records(&self) -> &[TraceRecord] {
        &self.records
    }

    /// What `run.json` says of the run; `None` in memory, where there is no such file, and where it is
    /// damaged, which takes no records with it.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.as_ref()
    }

    fn read_manifest(&mut self, path: &Path) {
        self.manifest = Manifest::open(path).ok().flatten();
    }

    /// Files and lines that could not be read, each with its reason; the first 1,000 of them.
    #[must_use]
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// The captured values of a record of this trace; `None` where values were not asked for.
    ///
    /// # Errors
    ///
    /// If the file of the values is missing, damaged, or would lie outside the trace directory.
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

    /// The captured values of a record, of a trace in memory where they are.
    pub(crate) fn captured(&self, record: &TraceRecord) -> Result<Option<Cow<'_, Values>>, Error> {
        Ok(match &self.values {
            Captured::Memory(values) => record.order.and_then(|order| values.get(&order)).map(Cow::Borrowed),
            Captured::Directory(directory) => read_values(directory, record)?.map(Cow::Owned),
        })
    }

    /// The records that a filter takes, in execution order; the words are those of
    /// `BITNET_TRACE_FILTER`: `stage=attn_*,layer=0-3;stage=logits`. Of a record without a stage, its name
    /// says what the record does not, as in [`diff`](crate::compare()).
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
            let io = record.io.as_deref();
            // The name of a weight is its own, in another convention.
            let stage = record.stage.as_deref().or((io == Some("weight")).then_some(&*record.name));
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

    /// The number of the process that made the record at an index.
    pub(crate) fn process_of(&self, index: usize) -> usize {
        let begun = self.processes.partition_point(|(first, _)| *first <= index);
        begun.checked_sub(1).map_or(0, |last| self.processes[last].1)
    }

    fn is_nothing(&self) -> bool {
        self.records.is_empty() && self.problems.is_empty()
    }

    fn sort(&mut self) {
        self.records.sort_by_key(|record| record.order.unwrap_or(u64::MAX));
    }

    /// A `.jsonl` file, or the files of one directory alone; values lie in files under `directory`.
    fn read(path: &Path, directory: &Path) -> Self {
        let mut trace = Self { values: Captured::Directory(directory.to_owned()), ..Self::default() };
        pieces(path, &mut |piece| match piece.and_then(|piece| piece.parse()) {
            Ok(record) => trace.records.push(record),
            Err(problem) => trace.problem(problem),
        });
        trace.sort();
        trace
    }

    /// The files of one directory alone.
    pub(crate) fn read_directory(directory: &Path) -> Self {
        Self::read(directory, directory)
    }
}

impl Trace {
    /// Records that were read one by one from `directory`, with the problems of reading them.
    pub(crate) fn of_records(directory: &Path, records: Vec<TraceRecord>, problems: Vec<Error>) -> Self {
        let values = Captured::Directory(directory.to_owned());
        let mut trace = Self { records, values, ..Self::default() };
        trace.read_manifest(directory);
        problems.into_iter().for_each(|problem| trace.problem(problem));
        trace.sort();
        trace
    }

    /// Records that never were in files.
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
