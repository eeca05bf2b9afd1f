//! `run.json`, the manifest of a run: the same type is written and read.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::serial::impl_serde;

/// The content of `run.json`: which program made a run, with which settings, and how it ended.
///
/// Fields that an older version did not write, or that do not have the expected type, are empty.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Manifest {
    /// Version of the format: `bitnet-trace/1`.
    pub schema: String,
    /// Version of the library that wrote the run.
    pub version: String,
    /// The program, as named on its command line.
    pub program: Option<String>,
    /// The program's arguments.
    pub arguments: Vec<String>,
    /// The program's process id.
    pub process: u32,
    /// Distinguishes the process from all others with the same id; `None` on systems without `/proc`.
    pub process_identity: Option<String>,
    /// Rank of the process among several; `None` if no launcher set one.
    pub rank: Option<u64>,
    /// Id of the run, different for every run: 16 hex digits.
    pub run: String,
    /// Name of the machine.
    pub host: Option<String>,
    /// Operating system and processor architecture: `linux x86_64`.
    pub system: String,
    /// Features of the adapter that recorded the run, and those of its tensor library that change how sums are
    /// computed.
    pub features: Vec<String>,
    /// Number of threads that the tensor library computes with; `None` if it does not say.
    pub threads: Option<usize>,
    /// The format of the session that began the run: `files` or `jsonl`.
    pub format: String,
    /// All formats of the run's records: several sessions may share a run.
    pub formats: Vec<String>,
    /// The filter of the session that began the run, in the syntax of `BITNET_TRACE_FILTER`.
    pub filter: String,
    /// What the session that began the run keeps besides hash and statistics, in the syntax of
    /// `BITNET_TRACE_CAPTURE`.
    pub capture: String,
    /// Time when the run began: RFC 3339, UTC.
    pub started: String,
    /// Time when the run ended cleanly, in the same form; `None` until then.
    pub finished: Option<String>,
    /// Number of records written so far.
    pub records: u64,
    /// Number of records lost so far.
    pub lost: u64,
    /// Why records were lost: one entry per cause.
    pub losses: Vec<Loss>,
    /// The facts that the program added with `annotate_run`.
    pub annotations: BTreeMap<String, Value>,
    /// Number of annotated functions in the binary.
    pub sites: usize,
    /// The annotated functions that have not been called so far; in a complete run, those never called.
    pub unreached: Vec<Function>,
    /// Whether the run ended cleanly.
    pub complete: bool,
}

impl_serde! {
    Serialize, Deserialize for Manifest {
        schema [default], version [default], program [default], arguments [default], process [default],
        process_identity [default], rank [default], run [default], host [default], system [default],
        features [default], threads [optional], format [default], formats [default], filter [default],
        capture [default], started [default], finished [default], records [default], lost [default], losses [default],
        annotations [default], sites [default], unreached [default], complete [default],
    }
}

/// The records that were lost for one cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// What went wrong, in words that are the same for every record lost for this cause.
    pub cause: String,
    /// Number of records lost.
    pub count: u64,
    /// The whole error message of the first loss.
    pub first: String,
}

impl_serde! { Serialize, Deserialize for Loss { cause [default], count [default], first [default] } }

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.count, self.first)
    }
}

/// An annotated function in the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Function {
    /// The stage of its records.
    pub stage: String,
    /// Name of the function.
    pub function: String,
    /// Module of the function: `crate::module`.
    pub module: String,
    /// Source file of the function.
    pub file: String,
    /// The line of the `fn` keyword, from 1.
    pub line: u32,
}

impl_serde! {
    Serialize, Deserialize for Function {
        stage [default], function [default], module [default], file [default], line [default],
    }
}

impl Function {
    /// Creates the description of a function; the parameters are the fields.
    #[must_use]
    pub fn new(stage: &str, function: &str, module: &str, file: &str, line: u32) -> Self {
        let [stage, function, module, file] = [stage, function, module, file].map(str::to_owned);
        Self { stage, function, module, file, line }
    }
}
