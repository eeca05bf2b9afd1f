//! The session floor: decides whether and by which settings the current call is recorded.
//!
//! A thread records into the session of its scope ([`TraceSession`]) or else into the session that the
//! environment variables ask for. `state` keeps the one byte that call sites read, `environment` reads the
//! variables, `builder` makes sessions by program, and [`Draft`] turns a tensor and its context into a record.
//! Adapters of tensor libraries record through this floor.
//!
//! It imports `run`, `sink`, `trace`, `record`, `digest` and `context`, and never `compare` or `report`.

mod builder;
mod draft;
mod environment;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

pub use builder::{FinishError, TraceSession, TraceSessionBuilder};
pub use draft::{Draft, GRAD, IN, LET, OUT, WEIGHT, record};
pub use state::{OFF, active, flush, in_directory, may_record, state};

use crate::context::TraceContext;
use crate::digest::TensorView;
use crate::error::Error;
use crate::failing::{locked, warn};
use crate::record::TraceRecord;
use crate::record::filter::{Rest, Subject};
use crate::run::config::Config;
use crate::run::losses::Losses;
use crate::run::own::OwnRecords;
use crate::run::{Hold, Run};
pub use crate::run::{Plain, TensorLibrary};

/// A session: a run to record into, and the settings that say what is recorded.
///
/// This type is for adapters of tensor libraries; models use [`TraceSession`] and the environment.
pub struct Session {
    /// `None` if records are only printed.
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) config: Config,
    /// Number of the session within the process, from 1.
    number: u64,
    /// The records of this session; `None` if nobody will read them back.
    pub(crate) own: Option<Mutex<OwnRecords>>,
    pub(crate) losses: Losses,
    /// Keeps the run's files open.
    hold: Mutex<Option<Hold>>,
    /// Whether the session still records. Each record is written under the read lock, so that `stop` waits for it.
    recording: RwLock<bool>,
}

impl Session {
    pub(crate) fn new(hold: Option<Hold>, config: Config) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            run: hold.as_ref().map(|hold| Arc::clone(hold.run())),
            config,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            own: None,
            losses: Losses::default(),
            hold: Mutex::new(hold),
            recording: RwLock::new(true),
        }
    }

    /// A session that remembers which records are its own.
    pub(crate) fn remembering(hold: Hold, config: Config) -> Self {
        Self { own: Some(Mutex::default()), ..Self::new(Some(hold), config) }
    }

    fn recording(&self) -> RwLockReadGuard<'_, bool> {
        self.recording.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops recording, also in contexts that were carried out of the session. Waits for the records that are being
    /// written.
    pub(crate) fn stop(&self) {
        *self.recording.write().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Stops recording and closes the run's files, unless other sessions use them.
    pub(crate) fn close(&self) {
        self.stop();
        drop(locked(&self.hold).take());
    }

    /// The number of the session within the process, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the session's run within the process, from 1; `None` if records are only printed.
    #[must_use]
    pub fn run_number(&self) -> Option<u64> {
        self.run.as_ref().map(|run| run.number)
    }

    /// Notes that the annotated function of this number was called in this session's run, whether or not the call is
    /// recorded. The numbers are those of [`TensorLibrary::functions`].
    pub fn reach(&self, function: usize) {
        if let Some(run) = &self.run {
            run.reach(function);
        }
    }

    /// Whether the filters accept records of a stage; `None` if that depends on layer, step, request or name. `io`
    /// is [`OUT`], [`IN`], [`LET`], [`WEIGHT`] or [`GRAD`].
    #[must_use]
    pub fn wants_stage(&self, stage: &str, io: &str) -> Option<bool> {
        self.wants(&Subject { stage: Some(stage), io, rest: None })
    }

    /// Whether the filters accept a record of this name and stage in a context.
    #[must_use]
    pub fn wants_record(&self, name: &str, stage: Option<&str>, io: &str, context: &TraceContext) -> bool {
        let TraceContext { seq, layer, request, .. } = *context;
        self.wants(&Subject { stage, io, rest: Some(Rest { name, layer, seq, request }) }) == Some(true)
    }

    /// Whether a record is to be written or printed; `None` if that depends on facts that are not known yet.
    fn wants(&self, subject: &Subject<'_>) -> Option<bool> {
        let kept = if self.run.is_some() { self.config.filter.accepts(subject) } else { Some(false) };
        let printed = self.config.print.as_ref().map_or(Some(false), |print| print.accepts(subject));
        match (kept, printed) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Writes the record; `values` is its tensor if values were asked for.
    pub(crate) fn keep(&self, record: &mut TraceRecord, values: Option<&TensorView<'_>>) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let recording = self.recording();
        if !*recording {
            return Ok(());
        }
        let (place, lost) = run.write(record, values, self.config.format)?;
        if let (Some(own), Some(order)) = (&self.own, record.order) {
            locked(own).add(order, place);
        }
        for error in &lost {
            self.lose(error);
        }
        Ok(())
    }

    /// Counts a loss in the session and in the run, and warns if it is the first of its cause. Aborts the process if
    /// `BITNET_TRACE_STRICT` is set.
    pub fn lose(&self, error: &Error) {
        let first = self.losses.add(error);
        let first = self.run.as_ref().map_or(first, |run| run.lose(error));
        if self.config.strict {
            abort(error);
        }
        if first {
            warn(format_args!("{}; the trace is incomplete, the model goes on", error.full()));
        }
    }

    /// Adds a fact about the run to `run.json` at once.
    pub fn annotate(&self, key: &str, value: Value) {
        let recording = self.recording();
        if let Some(run) = self.run.as_ref().filter(|_| *recording) {
            run.annotate(key, value);
        }
    }
}

/// Aborts the process after a failure, as `BITNET_TRACE_STRICT` asks.
pub(crate) fn abort(error: &Error) -> ! {
    warn(format_args!("{}; aborting, because BITNET_TRACE_STRICT is set", error.full()));
    std::process::abort()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.run.as_ref().and_then(|run| run.directory());
        f.debug_struct("Session").field("directory", &directory).finish_non_exhaustive()
    }
}
