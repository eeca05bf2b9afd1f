//! Who records now: the session of the scope, or the one that the environment asks for.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use candle_core::Tensor;

use crate::annotation::Annotation;
use crate::config::{self, Config};
use crate::context;
use crate::error::Error;
use crate::filter::Subject;
use crate::losses::{Losses, warn};
use crate::own::Own;
use crate::record::TraceRecord;
use crate::run::{Hold, Run, locked};

/// Something that records: a destination, and what is recorded there.
pub(crate) struct Session {
    /// None where records are only printed.
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) config: Config,
    /// Tells the sessions of a process apart, from 1.
    pub(crate) number: u64,
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

    /// One that has ended.
    pub(crate) fn ended() -> Arc<Self> {
        let session = Self::new(None, Config::default());
        session.stop();
        Arc::new(session)
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

    /// Whether a record is wanted at all; none if that depends on what is not known yet.
    pub(crate) fn wants(&self, subject: &Subject<'_>) -> Option<bool> {
        let kept = if self.run.is_some() { self.config.filter.accepts(subject) } else { Some(false) };
        let printed = self.config.print.as_ref().map_or(Some(false), |print| print.accepts(subject));
        match (kept, printed) {
            (Some(true), _) | (_, Some(true)) => Some(true),
            (Some(false), Some(false)) => Some(false),
            _ => None,
        }
    }

    /// Writes the record; `values` is its tensor, where values were asked for.
    pub(crate) fn keep(&self, record: &mut TraceRecord, values: Option<&Tensor>) -> Result<(), Error> {
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
    pub(crate) fn lose(&self, error: &Error) {
        let first = self.losses.add(error);
        let first = self.run.as_ref().map_or(first, |run| run.lose(error));
        if self.config.strict {
            abort(error);
        }
        if first {
            warn(format_args!("{}; the trace is without it, the model goes on", error.full()));
        }
    }

    pub(crate) fn annotate(&self, key: &str, value: Annotation) {
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

/// Whether anything may record: the one byte that a call site reads.
static STATE: AtomicU8 = AtomicU8::new(UNREAD);
/// The environment was not looked at yet.
const UNREAD: u8 = 0;
pub(crate) const OFF: u8 = 1;
const ON: u8 = 2;

/// The session of the environment, once it was looked at.
static ENVIRONMENT: OnceLock<Option<Arc<Session>>> = OnceLock::new();
/// How many `TraceSession`s live.
static LIVE: Mutex<usize> = Mutex::new(0);

/// False where recording is certainly off; true where [`active`] has to be asked.
#[inline]
pub(crate) fn may_record() -> bool {
    state() != OFF
}

/// The byte itself: `OFF`, or another that is less than 3.
#[inline]
pub(crate) fn state() -> u8 {
    STATE.load(Ordering::Relaxed)
}

/// The session that records what this thread does now. In the scope of one that finished, none does.
pub(crate) fn active() -> Option<Arc<Session>> {
    match context::current_session() {
        Some(session) => Some(session).filter(|session| *session.goes_on()),
        None => of_environment(),
    }
}

fn of_environment() -> Option<Arc<Session>> {
    // Without a lock: this is asked for every record.
    if let Some(session) = ENVIRONMENT.get() {
        return session.clone();
    }
    let session = ENVIRONMENT.get_or_init(from_environment).clone();
    set_state();
    session
}

fn from_environment() -> Option<Arc<Session>> {
    config::warn_of_unknown();
    let directory = config::directory();
    if directory.is_none() && !config::prints() {
        return None;
    }
    let config = settings().ok()?.clone();
    let hold = match directory.map(|directory| Run::in_directory(&directory, &config)).transpose() {
        Ok(hold) => hold,
        Err(error) if config.strict => abort(&error),
        Err(error) => {
            warn(format_args!("{}; tracing is off", error.full()));
            return None;
        }
    };
    Some(Arc::new(Session::new(hold, config)))
}

/// What the variables say, the directory excepted: read once. A wrong value is told once.
fn settings() -> Result<&'static Config, &'static Error> {
    static SETTINGS: OnceLock<Result<Config, Error>> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| {
        Config::from_environment().inspect_err(|error| {
            if config::strict().unwrap_or(false) {
                abort(error);
            }
            warn(format_args!("{}; tracing is off", error.full()));
        })
    });
    settings.as_ref()
}

/// What `dump_trace` records through: the environment's settings in the directory of this moment.
pub(crate) fn in_directory(directory: &Path) -> candle_core::Result<Arc<Session>> {
    /// The directory stays open until another one takes its place.
    static LAST: Mutex<Option<Hold>> = Mutex::new(None);

    config::warn_of_unknown();
    let config = settings().map_err(|error| candle_core::Error::msg(error.full()))?;
    let hold = Run::in_directory(directory, config).map_err(|error| {
        if config.strict {
            abort(&error);
        }
        candle_core::Error::msg(error.full())
    })?;
    let mut last = locked(&LAST);
    if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last.run(), hold.run())) {
        *last = Some(hold.again());
    }
    drop(last);
    Ok(Arc::new(Session::new(Some(hold), config.clone())))
}

/// A `TraceSession` began.
pub(crate) fn came() {
    *LIVE.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    set_state();
}

/// A `TraceSession` ended.
pub(crate) fn went() {
    *LIVE.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
    set_state();
}

fn set_state() {
    let live = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    let state = match ENVIRONMENT.get() {
        _ if *live > 0 => ON,
        Some(Some(_)) => ON,
        Some(None) => OFF,
        None => UNREAD,
    };
    STATE.store(state, Ordering::Relaxed);
}
