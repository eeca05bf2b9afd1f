//! `run.json`: what a run was, as it is written and as it is read.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What `run.json` says of a run.
///
/// Fields that an older version did not write are empty.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of the format: `bitnet-trace/1`.
    pub schema: String,
    /// Version of the library that wrote the run.
    pub version: String,
    /// The program, as it was started.
    pub program: Option<String>,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its process id.
    pub process: u32,
    /// Tells the process from all others with its id, where the system has `/proc`.
    pub process_identity: Option<String>,
    /// Which of several processes, where a launcher says so.
    pub rank: Option<u64>,
    /// Tells the run from every other one: 16 hex digits.
    pub run: String,
    /// Name of the machine.
    pub host: Option<String>,
    /// Operating system and processor architecture: `linux x86_64`.
    pub system: String,
    /// Features of this library, and those of the tensor library that change how sums are computed.
    pub features: Vec<String>,
    /// Threads that the tensor library computes with, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// The format of whoever began the run: `files` or `jsonl`.
    pub format: String,
    /// All formats that records were written in: several sessions may share a run.
    pub formats: Vec<String>,
    /// The filter of whoever began the run, as in `BITNET_TRACE_FILTER`.
    pub filter: String,
    /// What is kept beside hash and statistics, as in `BITNET_TRACE_CAPTURE`.
    pub capture: String,
    /// When the run began: RFC 3339, UTC.
    pub started: String,
    /// When it ended cleanly.
    pub finished: Option<String>,
    /// Records written so far.
    pub records: u64,
    /// Records lost so far.
    pub lost: u64,
    /// Why they were lost, an entry a cause.
    pub losses: Vec<Loss>,
    /// What the program said with `annotate_run`.
    pub annotations: BTreeMap<String, Value>,
    /// Annotated functions in the binary.
    pub sites: usize,
    /// The annotated functions that were not called: so far or, in a complete run, at all.
    pub unreached: Vec<Function>,
    /// Whether the run ended cleanly.
    pub complete: bool,
}

/// Records lost for one cause.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Loss {
    /// What went wrong, in words that are the same for every record that was lost to it.
    pub cause: String,
    /// How many records.
    pub count: u64,
    /// The whole message of the first.
    pub first: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.count, self.first)
    }
}

/// An annotated function in the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Function {
    /// The stage of its records.
    pub stage: String,
    /// Its name.
    pub function: String,
    /// Its module: `crate::module`.
    pub module: String,
    /// Its source file.
    pub file: String,
    /// The line of the `fn` keyword, from 1.
    pub line: u32,
}

impl Function {
    /// A function in the source.
    #[must_use]
    pub fn new(stage: &str, function: &str, module: &str, file: &str, line: u32) -> Self {
        let [stage, function, module, file] = [stage, function, module, file].map(str::to_owned);
        Self { stage, function, module, file, line }
    }
}
