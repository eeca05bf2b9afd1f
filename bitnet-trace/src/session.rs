//! Who records now: the session of the scope, or the one that the environment asks for.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::Tensor;

use crate::annotation::Annotation;
use crate::config::{self, Config};
use crate::context;
use crate::error::Error;
use crate::filter::Subject;
use crate::losses::{Losses, warn};
use crate::record::TraceRecord;
use crate::run::Run;

/// Places in the order of a run, as ranges: one that records alone needs a single one.
#[derive(Debug, Default)]
pub(crate) struct Orders(BTreeMap<u64, u64>);

impl Orders {
    fn insert(&mut self, order: u64) {
        match self.0.range_mut(..=order).next_back() {
            Some((_, end)) if *end == order => *end = order + 1,
            _ => {
                self.0.insert(order, order + 1);
            }
        }
    }

    pub(crate) fn contains(&self, order: u64) -> bool {
        self.0.range(..=order).next_back().is_some_and(|(_, end)| order < *end)
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

/// Something that records: a destination, and what is recorded there.
pub(crate) struct Session {
    /// None where records are only printed.
    pub(crate) run: Option<Arc<Run>>,
    pub(crate) config: Config,
    /// Tells the sessions of a process apart, from 1.
    pub(crate) number: u64,
    /// Orders of the records made through this session, where somebody will ask for them.
    pub(crate) orders: Option<Mutex<Orders>>,
    pub(crate) losses: Losses,
}

impl Session {
    pub(crate) fn new(run: Option<Arc<Run>>, config: Config) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { run, config, number, orders: None, losses: Losses::default() }
    }

    /// A session that remembers which records are its own.
    pub(crate) fn remembering(run: Arc<Run>, config: Config) -> Self {
        Self { orders: Some(Mutex::default()), ..Self::new(Some(run), config) }
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
        let lost_values = run.write(record, values, self.config.format)?;
        if let (Some(orders), Some(order)) = (&self.orders, record.order) {
            orders.lock().unwrap_or_else(PoisonError::into_inner).insert(order);
        }
        if let Some(error) = lost_values {
            self.lose(&error);
        }
        Ok(())
    }

    /// Counts a loss, here and in the run; warns if it is the first of its cause.
    pub(crate) fn lose(&self, error: &Error) {
        if self.config.strict {
            abort(error);
        }
        let first = self.losses.add(error);
        let first = self.run.as_ref().map_or(first, |run| run.lose(error));
        if first {
            warn(format_args!("{error}; it is lost to the trace, the model goes on"));
        }
    }

    pub(crate) fn annotate(&self, key: &str, value: Annotation) {
        if let Some(run) = &self.run {
            run.annotate(key, value);
        }
    }
}

/// What `BITNET_TRACE_STRICT` asks for: nothing of the run can be trusted any more.
pub(crate) fn abort(error: &Error) -> ! {
    warn(format_args!("{error}; aborting, as BITNET_TRACE_STRICT asks"));
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
const OFF: u8 = 1;
const ON: u8 = 2;

/// The session of the environment, once it was looked at.
static ENVIRONMENT: OnceLock<Option<Arc<Session>>> = OnceLock::new();
/// How many `TraceSession`s live.
static LIVE: Mutex<usize> = Mutex::new(0);

/// False where recording is certainly off; true where [`active`] has to be asked.
#[inline]
pub(crate) fn may_record() -> bool {
    STATE.load(Ordering::Relaxed) != OFF
}

/// The session that records what this thread does now.
pub(crate) fn active() -> Option<Arc<Session>> {
    context::current_session().or_else(|| {
        let session = ENVIRONMENT.get_or_init(from_environment).clone();
        set_state();
        session
    })
}

fn from_environment() -> Option<Arc<Session>> {
    let directory = config::directory();
    if directory.is_none() && !config::prints() {
        return None;
    }
    let config = settings().ok()?.clone();
    let run = match directory.map(|directory| Run::in_directory(&directory, &config)).transpose() {
        Ok(run) => run,
        Err(error) if config.strict => abort(&error),
        Err(error) => {
            warn(format_args!("{error}; tracing is off"));
            return None;
        }
    };
    Some(Arc::new(Session::new(run, config)))
}

/// What the variables say, the directory excepted: read once. A wrong value is told once.
fn settings() -> Result<&'static Config, &'static Error> {
    static SETTINGS: OnceLock<Result<Config, Error>> = OnceLock::new();
    let settings = SETTINGS.get_or_init(|| {
        Config::from_environment().inspect_err(|error| {
            if config::strict().unwrap_or(false) {
                abort(error);
            }
            warn(format_args!("{error}; tracing is off"));
        })
    });
    settings.as_ref()
}

/// What `dump_trace` records through: the environment's settings in the directory of this moment.
pub(crate) fn in_directory(directory: &Path) -> candle_core::Result<Arc<Session>> {
    let config = settings().map_err(|error| candle_core::Error::msg(error.to_string()))?;
    let run = Run::in_directory(directory, config).map_err(|error| {
        if config.strict {
            abort(&error);
        }
        candle_core::Error::wrap(error)
    })?;
    Ok(Arc::new(Session::new(Some(run), config.clone())))
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
