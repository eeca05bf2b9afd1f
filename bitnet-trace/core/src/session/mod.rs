//! Who records now: the session of the scope, or the one that the environment asks for.

mod builder;
mod draft;
mod environment;
mod state;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use serde_json::Value;

pub use builder::{FinishError, TraceSession, TraceSessionBuilder};
pub use draft::{Draft, IN, OUT, WEIGHT, record};
pub use state::{OFF, active, flush, in_directory, may_record, state};

use crate::digest::TensorView;
use crate::error::Error;
use crate::failing::{locked, warn};
use crate::record::TraceRecord;
use crate::record::filter::Subject;
use crate::run::config::Config;
use crate::run::losses::Losses;
use crate::run::own::Own;
use crate::run::{Hold, Run};
pub use crate::run::{Plain, TensorLibrary};

/// Something that records: a destination, and what is recorded there.
///
/// For adapters of tensor libraries; models use [`TraceSession`] and the environment.
pub struct Session {
    /// None where records are only printed.
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) config: Config,
    /// Tells the sessions of a process apart, from 1.
    number: u64,
    /// The records made through this session, where somebody will ask for them.
    pub(crate) own: Option<Mutex<Own>>,
    pub(crate) losses: Losses,
    /// Keeps the run's files open.
    hold: Mutex<Option<Hold>>,
    /// Whether it goes on. Read while a record is written, so that the end waits for it.
    goes_on: RwLock<bool>,
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
            goes_on: RwLock::new(true),
        }
    }

    /// A session that remembers which records are its own.
    pub(crate) fn remembering(hold: Hold, config: Config) -> Self {
        Self { own: Some(Mutex::default()), ..Self::new(Some(hold), config) }
    }

    fn goes_on(&self) -> RwLockReadGuard<'_, bool> {
        self.goes_on.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is recorded any more, also by contexts that were carried out of the session. Waits for
    /// the records that are being written.
    pub(crate) fn stop(&self) {
        *self.goes_on.write().unwrap_or_else(PoisonError::into_inner) = false;
    }

    /// Lets go of the run's files.
    pub(crate) fn close(&self) {
        self.stop();
        drop(locked(&self.hold).take());
    }

    /// Tells the sessions of a process apart, from 1.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Tells the runs of a process apart, from 1; `None` where records are only printed.
    #[must_use]
    pub fn run_number(&self) -> Option<u64> {
        self.run.as_ref().map(|run| run.number)
    }

    /// Notes that the annotated function of this number was called in this session's run, whether or not
    /// that makes a record.
    pub fn reach(&self, function: usize) {
        if let Some(run) = &self.run {
            run.reach(function);
        }
    }

    /// Whether any record of a stage is wanted; `None` if that depends on layer, step or label. `io` is
    /// [`OUT`], [`IN`] or [`WEIGHT`].
    #[must_use]
    pub fn wants_stage(&self, stage: &str, io: &str) -> Option<bool> {
        self.wants(&Subject { stage: Some(stage), io, rest: None })
    }

    /// Whether a record is wanted at all; none if that depends on what is not known yet.
    fn wants(&self, subject: &Subject<'_>) -> Option<bool> {
        let kept = if self.run.is_some() { self.config.filter.accepts(subject) } else { Some(false) };
        let printed = self.config.print.as_ref().map_or(Some(false), |print| print.accepts(subject));
        match (kept, printed) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Writes the record; `values` is its tensor, where values were asked for.
    pub(crate) fn keep(&self, record: &mut TraceRecord, values: Option<&TensorView<'_>>) -> Result<(), Error> {
        let Some(run) = &self.run else { return Ok(()) };
        let goes_on = self.goes_on();
        if !*goes_on {
            return Ok(());
        }
        let (written, lost) = run.write(record, values, self.config.format)?;
        if let (Some(own), Some(order)) = (&self.own, record.order) {
            locked(own).add(order, written);
        }
        for error in &lost {
            self.lose(error);
        }
        Ok(())
    }

    /// Counts a loss, here and in the run; warns if it is the first of its cause.
    pub fn lose(&self, error: &Error) {
        let first = self.losses.add(error);
        let first = self.run.as_ref().map_or(first, |run| run.lose(error));
        if self.config.strict {
            abort(error);
        }
        if first {
            warn(format_args!("{}; the trace is without it, the model goes on", error.full()));
        }
    }

    /// Puts a fact about the run into `run.json`, at once.
    pub fn annotate(&self, key: &str, value: Value) {
        let goes_on = self.goes_on();
        if let Some(run) = self.run.as_ref().filter(|_| *goes_on) {
            run.annotate(key, value);
        }
    }
}

/// What `BITNET_TRACE_STRICT` asks for: nothing of the run can be trusted any more.
pub(crate) fn abort(error: &Error) -> ! {
    warn(format_args!("{}; aborting, as BITNET_TRACE_STRICT asks", error.full()));
    std::process::abort()
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let directory = self.run.as_ref().and_then(|run| run.directory());
        f.debug_struct("Session").field("directory", &directory).finish_non_exhaustive()
    }
}
