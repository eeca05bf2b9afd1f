//! The trace of one `bitnet run`.

#[cfg(not(feature = "trace"))]
pub(crate) use off::Capture;
#[cfg(feature = "trace")]
pub(crate) use on::Capture;

use std::path::PathBuf;

/// Where to record: the directory of `--trace-dir`, else that of the variable; `None` if it is unset or empty.
fn wanted(argument: Option<PathBuf>) -> Option<PathBuf> {
    argument
        .or_else(|| std::env::var_os("BITNET_TRACE_DIR").map(PathBuf::from))
        .filter(|directory| !directory.as_os_str().is_empty())
}

#[cfg(feature = "trace")]
mod on {
    use std::fmt;
    use std::io::{self, Write};
    use std::path::PathBuf;

    use bitnet_trace::report::Table;
    use bitnet_trace::{FinishError, Trace, TraceSession, TraceSessionBuilder};

    /// Rows of the table: embeddings and the first block.
    const FIRST: usize = 20;

    /// The session that was asked for, or one that records nothing if it could not be started.
    pub(crate) struct Capture(Option<TraceSession>);

    impl Capture {
        pub(crate) fn begin(argument: Option<PathBuf>) -> Self {
            Self(super::wanted(argument).map(|directory| {
                let started = TraceSession::builder().dir(directory).environment().and_then(TraceSessionBuilder::start);
                started.unwrap_or_else(|error| {
                    warn(format_args!("{}; running without a trace", error.full()));
                    // The environment's session may record into another directory than the argument.
                    TraceSession::disabled()
                })
            }))
        }

        pub(crate) fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
            match &self.0 {
                Some(session) => session.in_scope(f),
                // Without a directory the environment may still ask for printing.
                None => f(),
            }
        }

        /// Whether tensors may be recorded or printed.
        pub(crate) fn is_on(&self) -> bool {
            self.0.is_some() || std::env::var_os("BITNET_TRACE_PRINT").is_some_and(|filter| !filter.is_empty())
        }

        /// Whether there is a `run.json` for facts about the run.
        pub(crate) fn records(&self) -> bool {
            self.0.as_ref().is_some_and(|session| session.directory().is_some())
        }

        pub(crate) fn end(self) -> Option<Summary> {
            let session = self.0?;
            let directory = session.directory()?.to_owned();
            let (trace, lost) = match session.finish() {
                Ok(trace) => (trace, 0),
                Err(error) => {
                    warn(&error);
                    let lost = error.losses().iter().map(|loss| loss.count).sum();
                    (FinishError::into_trace(error), lost)
                }
            };
            Some(Summary { directory, trace, lost })
        }
    }

    /// The directory of a trace and its first records.
    pub(crate) struct Summary {
        pub(crate) directory: PathBuf,
        trace: Trace,
        pub(crate) lost: u64,
    }

    impl Summary {
        pub(crate) fn records(&self) -> usize {
            self.trace.records().len()
        }
    }

    impl fmt::Display for Summary {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let records = self.trace.records();
            write!(f, "trace: {} records in {}", records.len(), self.directory.display())?;
            if self.lost > 0 {
                write!(f, " ({} lost)", self.lost)?;
            }
            let first = &records[..records.len().min(FIRST)];
            write!(f, "\n\n{}", Table(first))?;
            match records.len() - first.len() {
                0 => Ok(()),
                more => writeln!(f, "... {more} more"),
            }
        }
    }

    fn warn(message: impl fmt::Display) {
        let _ = writeln!(io::stderr(), "{}", crate::printable(&format!("warning: {message}")));
    }
}

#[cfg(not(feature = "trace"))]
mod off {
    use std::fmt;
    use std::io::{self, Write};
    use std::path::PathBuf;

    /// Runs without a trace; warns if one was asked for, and says how to build for it.
    pub(crate) struct Capture;

    impl Capture {
        pub(crate) fn begin(argument: Option<PathBuf>) -> Self {
            if super::wanted(argument).is_some() {
                let _ = writeln!(
                    io::stderr(),
                    "warning: this build cannot trace; build it with the feature `trace`, as in \
                     `cargo run --release --features trace -- run ...`"
                );
            }
            Self
        }

        #[allow(clippy::unused_self)] // the same call in both states
        pub(crate) fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
            f()
        }

        #[allow(clippy::unused_self)] // the same call in both states
        pub(crate) fn is_on(&self) -> bool {
            false
        }

        #[allow(clippy::unused_self)] // the same call in both states
        pub(crate) fn end(self) -> Option<Summary> {
            None
        }
    }

    /// There is no trace without the feature.
    pub(crate) struct Summary {
        pub(crate) directory: PathBuf,
        pub(crate) lost: u64,
    }

    impl Summary {
        #[allow(clippy::unused_self)] // the same call in both states
        pub(crate) fn records(&self) -> usize {
            0
        }
    }

    impl fmt::Display for Summary {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Ok(())
        }
    }
}
