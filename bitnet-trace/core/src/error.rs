//! The crate's error type.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// An error in configuring, writing, reading or comparing traces. The model itself never sees one.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be created, written or read.
    Io {
        /// The action that failed, as a verb: `create`, `write`, `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A setting has a value that is not allowed.
    Setting {
        /// The environment variable or the builder's method.
        setting: &'static str,
        /// The value given.
        found: String,
        /// What is wrong with the value; `None` where `expected` says enough.
        reason: Option<String>,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// The builder of a session was given neither a directory nor `in_memory`.
    NoDestination,
    /// Another session of this process records into the directory.
    InUse(PathBuf),
    /// The directory or file holds no records.
    NothingToRead(PathBuf),
    /// A file, or a line of it, is not a record.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with line and column.
        reason: String,
    },
    /// A `run.json` is not that of a trace.
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file does not hold the captured values of its record.
    Values {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A tolerance or map file cannot be understood.
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// The run was written in another format.
    Schema {
        /// The `run.json`.
        path: PathBuf,
        /// The `schema` in it.
        found: String,
    },
    /// The two sides cannot be compared; the text says why.
    NothingToCompare(String),
    /// A tensor could not be read. The source is the error of the tensor's library.
    Tensor(Box<dyn std::error::Error + Send + Sync>),
    /// A view of a tensor reaches beyond the tensor's storage.
    View {
        /// Dimensions, slowest first.
        shape: Vec<usize>,
        /// Strides in elements; `None` for a contiguous view.
        strides: Option<Vec<usize>>,
        /// Index of the view's first element in the storage.
        offset: usize,
        /// Elements in the storage.
        held: usize,
    },
    /// The tensor's type, which the text names, has no conversion to f32.
    NotRecordable(String),
    /// There is not enough memory for a copy of a tensor.
    Memory {
        /// Size of the copy.
        bytes: usize,
    },
    /// Records that a session wrote are no longer in its directory.
    Missing {
        /// The directory.
        path: PathBuf,
        /// Number of records that are missing.
        missing: u64,
        /// Number of records that were written.
        of: u64,
    },
    /// Code outside of this crate failed, such as a hook in another language.
    Foreign {
        /// What failed, in words that are the same for every failure of the kind.
        cause: String,
        /// Why.
        message: String,
    },
    /// Code of this crate, or code that it called, panicked. The panic was caught and did not reach the model.
    Panicked {
        /// What the code was doing: `reading the tensor`.
        action: &'static str,
        /// The message of the panic.
        message: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, .. } => write!(f, "cannot {action} {}", path.display()),
            Self::Setting { setting, found, reason, expected } => {
                let reason = reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
                write!(f, "{setting} is {found:?}{reason}; expected {expected}")
            }
            Self::NoDestination => {
                f.write_str("the trace session has no destination; call `dir(..)` or `in_memory()` before `start()`")
            }
            Self::InUse(path) => {
                write!(f, "{} already has a live session in this process; finish it first", path.display())
            }
            Self::NothingToRead(path) => {
                write!(f, "{} holds no trace: expected `.trace` files or a `trace.jsonl`", path.display())
            }
            Self::Damaged { path, reason } => write!(f, "{}: not a record: {reason}", path.display()),
            Self::Manifest { path, reason } => {
                write!(f, "{}: not the `run.json` of a trace: {reason}", path.display())
            }
            Self::Values { path, reason } => {
                write!(f, "{}: not the captured values of its record: {reason}", path.display())
            }
            Self::Settings { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::Schema { path, found } => {
                let path = path.display();
                write!(f, "{path}: the format is {found:?}; this version reads only \"bitnet-trace/1\"")
            }
            Self::NothingToCompare(reason) => write!(f, "nothing to compare: {reason}"),
            Self::Tensor(_) => f.write_str("cannot read the tensor"),
            Self::View { shape, strides, offset, held } => {
                let strides = strides.as_ref().map_or_else(String::new, |strides| format!(", strides {strides:?}"));
                write!(
                    f,
                    "a view of shape {shape:?}{strides} that starts at element {offset} does not fit its storage, \
                     which holds {held} elements"
                )
            }
            Self::NotRecordable(dtype) => {
                write!(f, "a tensor of type {dtype} cannot be recorded: there is no conversion from {dtype} to f32")
            }
            Self::Memory { bytes } => write!(f, "not enough memory to copy {bytes} bytes of values"),
            Self::Missing { path, missing, of } => {
                write!(f, "{missing} of {of} records are not in {}", path.display())
            }
            Self::Foreign { cause, message } => write!(f, "{cause}: {message}"),
            Self::Panicked { action, message } => write!(f, "{action} panicked: {message}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Tensor(source) => Some(&**source),
            _ => None,
        }
    }
}

impl Error {
    /// The whole message on one line: what failed, then the reason of each source.
    ///
    /// `Display` gives only the first part; [`source`](std::error::Error::source) gives the others to
    /// programs that print the chain themselves.
    #[must_use]
    pub fn full(&self) -> String {
        let mut text = self.to_string();
        let mut reason = std::error::Error::source(self);
        while let Some(error) = reason {
            text.push_str(": ");
            text.push_str(&error.to_string());
            reason = error.source();
        }
        text
    }

    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The cause by which failures are grouped: those with the same cause share one warning and one count, so
    /// the text leaves out names and numbers that differ from record to record.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Io { action, source, .. } => format!("cannot {action}: {}", source.kind()),
            Self::Panicked { action, .. } => format!("{action} panicked"),
            Self::Foreign { cause, .. } => cause.clone(),
            Self::View { .. } => "a view does not fit the storage of its tensor".to_owned(),
            Self::Memory { .. } => "not enough memory to copy the values".to_owned(),
            other => other.to_string(),
        }
    }
}
