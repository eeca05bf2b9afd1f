//! From a trace directory back to records.

use std::collections::HashMap;
#[cfg(feature = "trace")]
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use candle_core::Tensor;

use crate::error::Error;
use crate::paths::{entries, is_process_directory};
use crate::record::TraceRecord;

/// Largest record file that is read; a record takes about a kilobyte.
const LARGEST: u64 = 64 * 1024 * 1024;

/// The records of a run, in execution order.
#[derive(Debug, Default)]
pub struct Trace {
    records: Vec<TraceRecord>,
    /// Captured tensors by the record's order.
    values: HashMap<u64, Tensor>,
    problems: Vec<Error>,
}

impl Trace {
    /// Reads the `.trace` files of a directory, and of the directories of further processes in it.
    ///
    /// A file that is not a record is named in [`problems`](Self::problems); the rest is read.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or holds no `.trace` file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let mut trace = Self::read_directory(path)?;
        for process in entries(path)?.iter().filter(|path| is_process_directory(path)) {
            let mut other = Self::read_directory(process)?;
            trace.records.append(&mut other.records);
            trace.problems.append(&mut other.problems);
        }
        if trace.records.is_empty() && trace.problems.is_empty() {
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

    /// Files that could not be read, each with its reason.
    #[must_use]
    pub fn problems(&self) -> &[Error] {
        &self.problems
    }

    /// The captured tensor of a record, where values were asked for.
    #[must_use]
    pub fn values(&self, record: &TraceRecord) -> Option<&Tensor> {
        self.values.get(&record.order?)
    }

    /// The files of one directory alone.
    fn read_directory(directory: &Path) -> Result<Self, Error> {
        let mut trace = Self::default();
        for path in entries(directory)? {
            if path.extension().is_some_and(|extension| extension == "trace") {
                match read_record(&path) {
                    Ok(record) => trace.records.push(record),
                    Err(problem) => trace.problems.push(problem),
                }
            }
        }
        trace.records.sort_by_key(|record| record.order.unwrap_or(u64::MAX));
        Ok(trace)
    }
}

#[cfg(feature = "trace")]
impl Trace {
    /// The records with these orders of the run in `directory`.
    pub(crate) fn of_run(directory: &Path, orders: &HashSet<u64>) -> Result<Self, Error> {
        let mut trace = Self::read_directory(directory)?;
        trace.records.retain(|record| record.order.is_some_and(|order| orders.contains(&order)));
        Ok(trace)
    }

    pub(crate) fn in_memory(recorded: Vec<(TraceRecord, Option<Tensor>)>) -> Self {
        let mut trace = Self::default();
        for (record, values) in recorded {
            if let (Some(order), Some(values)) = (record.order, values) {
                trace.values.insert(order, values);
            }
            trace.records.push(record);
        }
        trace.records.sort_by_key(|record| record.order);
        trace
    }

    pub(crate) fn take_problems(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.problems)
    }
}

fn read_record(path: &Path) -> Result<TraceRecord, Error> {
    let damaged = |reason: String| Error::Damaged { path: PathBuf::from(path), reason };
    let mut json = Vec::new();
    let file = File::open(path).map_err(Error::io("read", path))?;
    file.take(LARGEST + 1).read_to_end(&mut json).map_err(Error::io("read", path))?;
    if json.len() as u64 > LARGEST {
        return Err(damaged(format!("larger than {LARGEST} bytes")));
    }
    serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))
}
