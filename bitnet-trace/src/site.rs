//! What is known of an annotated function at compile time.

use std::fmt;
#[cfg(feature = "trace")]
use std::sync::OnceLock;
#[cfg(feature = "trace")]
use std::sync::atomic::{AtomicU64, Ordering};

/// One `#[traced]` function: its stage and where it stands in the source.
#[derive(Debug)]
#[non_exhaustive]
pub struct Site {
    /// The stage of its records.
    pub stage: &'static str,
    /// The function's name.
    pub function: &'static str,
    /// The module it stands in, `crate::module`.
    pub module: &'static str,
    /// Source file, as the compiler was given it (relative to the workspace in a cargo build).
    pub file: &'static str,
    /// Line of the `fn` keyword, from 1.
    pub line: u32,
    /// What the positions of a returned tuple are called.
    pub outputs: &'static [&'static str],
    /// What the last session's filter says of the stage alone: the session's number, then two bits.
    #[cfg(feature = "trace")]
    decided: AtomicU64,
    /// The run that the function was last called in, by its number.
    #[cfg(feature = "trace")]
    reached: AtomicU64,
    /// `file:line function`, made by the first record.
    #[cfg(feature = "trace")]
    text: OnceLock<String>,
}

/// The filter needs more than the stage.
#[cfg(feature = "trace")]
const DEPENDS: u64 = 1;
#[cfg(feature = "trace")]
const WANTED: u64 = 2;
#[cfg(feature = "trace")]
const UNWANTED: u64 = 3;

#[cfg(feature = "trace")]
impl Site {
    /// Called by the expansion of `#[traced]`.
    #[doc(hidden)]
    #[must_use]
    pub const fn new(
        stage: &'static str,
        function: &'static str,
        module: &'static str,
        file: &'static str,
        line: u32,
    ) -> Self {
        Self {
            stage,
            function,
            module,
            file,
            line,
            outputs: &[],
            decided: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            text: OnceLock::new(),
        }
    }

    /// Called by the expansion of `#[traced(outputs(..))]`.
    #[doc(hidden)]
    #[must_use]
    pub const fn outputs(mut self, outputs: &'static [&'static str]) -> Self {
        self.outputs = outputs;
        self
    }

    /// The form of a record's `site`.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| self.to_string())
    }

    /// Notes that the function was called in a run. False if the call before was in the same run.
    pub(crate) fn reach(&self, run: u64) -> bool {
        self.reached.load(Ordering::Relaxed) != run && self.reached.swap(run, Ordering::Relaxed) != run
    }

    /// What `decide` says for this session, asked once as long as the session stays the same.
    pub(crate) fn decided(&self, session: u64, decide: impl FnOnce() -> Option<bool>) -> Option<bool> {
        let decided = self.decided.load(Ordering::Relaxed);
        let verdict = if decided >> 2 == session {
            decided & 0b11
        } else {
            let verdict = match decide() {
                None => DEPENDS,
                Some(true) => WANTED,
                Some(false) => UNWANTED,
            };
            self.decided.store(session << 2 | verdict, Ordering::Relaxed);
            verdict
        };
        match verdict {
            WANTED => Some(true),
            UNWANTED => Some(false),
            _ => None,
        }
    }
}

/// `file:line function`, the form of a record's `site`.
impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} {}", self.file, self.line, self.function)
    }
}
