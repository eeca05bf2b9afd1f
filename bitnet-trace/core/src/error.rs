//! The crate's error type.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong outside the model: in configuring, writing and reading traces.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be created, written or read.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `create`, `write`, `read`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A setting has a value that is not allowed.
    #[error("{setting} is {found:?}{}; expected {expected}", reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}")))]
    Setting {
        /// The environment variable or the builder's method.
        setting: &'static str,
        /// The value given.
        found: String,
        /// What in it is wrong, where that is not plain.
        reason: Option<String>,
        /// What is allowed.
        expected: &'static str,
    },
    /// The builder of a session was given neither a directory nor `in_memory`.
    #[error("a trace session needs `dir(..)` or `in_memory()`")]
    NoDestination,
    /// Another session of this process records into the directory.
    #[error("{} already has a live session in this process; finish it first", .0.display())]
    InUse(PathBuf),
    /// The directory or file holds no records.
    #[error("{} holds no trace: expected `.trace` files", .0.display())]
    NothingToRead(PathBuf),
    /// A file is not a record.
    #[error("{}: not a record: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with line and column.
        reason: String,
    },
    /// A file does not hold the captured values of its record.
    #[error("{}: not the captured values of its record: {reason}", path.display())]
    Values {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// A tolerance or map file says what cannot be understood.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        reason: String,
    },
    /// A run of another format.
    #[error("{}: the format is {found:?}; this reads \"bitnet-trace/1\"", path.display())]
    Schema {
        /// The `run.json`.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Two sides that cannot be compared.
    #[error("nothing to compare: {0}")]
    NothingToCompare(String),
    /// A tensor could not be read: what its library says.
    #[error("cannot read the tensor")]
    Tensor(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A view of a tensor that reaches beyond the tensor's storage.
    #[error(
        "a view of shape {shape:?}{} from element {offset} on does not fit its storage, which holds {held} elements",
        strides.as_ref().map_or_else(String::new, |strides| format!(", strides {strides:?}"))
    )]
    View {
        /// Dimensions, slowest first.
        shape: Vec<usize>,
        /// Strides in elements; `None` for a contiguous view.
        strides: Option<Vec<usize>>,
        /// Where the view begins, in elements.
        offset: usize,
        /// Elements in the storage.
        held: usize,
    },
    /// The tensor's type has no conversion to f32.
    #[error("a tensor of type {0} is not recordable: there is no conversion to f32 for it")]
    NotRecordable(String),
    /// There is not enough memory for a copy of a tensor.
    #[error("the memory does not hold {bytes} bytes of values")]
    Memory {
        /// What the copy takes.
        bytes: usize,
    },
    /// Records of a session are gone from its directory.
    #[error("{missing} of {of} records are not in {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
        /// How many are not there.
        missing: u64,
        /// How many were written.
        of: u64,
    },
    /// A bug in this crate or below it, which did not reach the model.
    #[error("{action} panicked: {message}")]
    Panicked {
        /// What was done: `reading the tensor`.
        action: &'static str,
        /// What the panic said.
        message: String,
    },
}

impl Error {
    /// The whole message on one line: what failed, then why, down to the system's reason.
    ///
    /// `Display` gives the first part alone, as [`source`](std::error::Error::source) gives the others
    /// to whoever prints a chain.
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

    /// Failures of one cause share a warning and a count: the action and the kind of the reason.
    pub(crate) fn cause(&self) -> String {
        match self {
            Self::Io { action, source, .. } => format!("cannot {action}: {}", source.kind()),
            Self::Panicked { action, .. } => format!("{action} panicked"),
            Self::View { .. } => "a view does not fit the storage of its tensor".to_owned(),
            Self::Memory { .. } => "the memory does not hold a copy of the values".to_owned(),
            other => other.to_string(),
        }
    }
}
