//! An annotated function, with its state while it records.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bitnet_trace_core::session::Session;

use crate::annotation::Site;

/// The static that the expansion of `#[traced]` makes.
#[derive(Debug)]
pub struct CallSite {
    site: Site,
    /// The last session's number, then two bits: what its filter says about the stage alone.
    decided: AtomicU64,
    /// The number of the run in which the function was last called.
    reached: AtomicU64,
    /// `file:line function`, made by the first record.
    text: OnceLock<String>,
}

/// The filter needs more than the stage.
const DEPENDS: u64 = 1;
const WANTED: u64 = 2;
const UNWANTED: u64 = 3;

impl CallSite {
    /// Called by the expansion of `#[traced]`.
    #[must_use]
    pub const fn new(
        stage: &'static str,
        function: &'static str,
        module: &'static str,
        file: &'static str,
        line: u32,
    ) -> Self {
        Self {
            site: Site::new(stage, function, module, file, line),
            decided: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            text: OnceLock::new(),
        }
    }

    /// Called by the expansion of `#[traced(outputs(..))]`.
    #[must_use]
    pub const fn outputs(mut self, outputs: &'static [&'static str]) -> Self {
        self.site.outputs = outputs;
        self
    }

    /// The form of a record's `site`.
    pub(crate) fn text(&self) -> &str {
        self.text.get_or_init(|| self.site.to_string())
    }

    /// A number that no other annotated function of this binary has.
    pub(crate) fn number(&'static self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Notes that the function was called in a run. Returns false if the previous call was in the same run.
    pub(crate) fn reach(&self, run: u64) -> bool {
        self.reached.load(Ordering::Relaxed) != run && self.reached.swap(run, Ordering::Relaxed) != run
    }

    /// Whether the session wants the stage. The answer is kept as long as the session stays the same.
    pub(crate) fn wanted_by(&self, session: &Session, io: &str) -> Option<bool> {
        let decided = self.decided.load(Ordering::Relaxed);
        let verdict = if decided >> 2 == session.number() {
            decided & 0b11
        } else {
            let verdict = match session.wants_stage(self.stage, io) {
                None => DEPENDS,
                Some(true) => WANTED,
                Some(false) => UNWANTED,
            };
            self.decided.store(session.number() << 2 | verdict, Ordering::Relaxed);
            verdict
        };
        match verdict {
            WANTED => Some(true),
            UNWANTED => Some(false),
            _ => None,
        }
    }
}

impl Deref for CallSite {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}
