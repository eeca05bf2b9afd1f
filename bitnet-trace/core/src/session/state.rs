//! Whether anything may record: the environment, asked once, and the sessions that live.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::{Session, TensorLibrary, abort, environment};
use crate::context;
use crate::error::Error;
use crate::failing::{locked, warn};
use crate::run::config::Config;
use crate::run::{Hold, Library, Run, flush_all};

/// Whether anything may record: the one byte that a call site reads.
static STATE: AtomicU8 = AtomicU8::new(UNREAD);
/// The environment was not looked at yet.
const UNREAD: u8 = 0;
/// Nothing records, and the environment asks for nothing.
pub const OFF: u8 = 1;
const ON: u8 = 2;

/// The session of the environment, once it was looked at.
static ENVIRONMENT: OnceLock<Option<Arc<Session>>> = OnceLock::new();
/// How many `TraceSession`s live.
static LIVE: Mutex<usize> = Mutex::new(0);

/// False where recording is certainly off; true where [`active`] has to be asked.
#[inline]
#[must_use]
pub fn may_record() -> bool {
    state() != OFF
}

/// The byte itself: `OFF`, or another that is less than 3.
#[inline]
#[must_use]
pub fn state() -> u8 {
    STATE.load(Ordering::Relaxed)
}

/// The session that records what this thread does now. In the scope of one that finished, none does.
///
/// The first call looks at the environment; a run that it begins is told of the tensor library `L`.
#[must_use]
pub fn active<L: TensorLibrary>() -> Option<Arc<Session>> {
    match context::session_handle() {
        // In the scope of a session that is gone nothing records.
        Some(handle) => handle.downcast::<Session>().ok().filter(|session| *session.goes_on()),
        None => of_environment(Library::of::<L>()),
    }
}

fn of_environment(library: Library) -> Option<Arc<Session>> {
    // Without a lock: this is asked for every record.
    if let Some(session) = ENVIRONMENT.get() {
        return session.clone();
    }
    let session = ENVIRONMENT.get_or_init(|| from_environment(library)).clone();
    set_state();
    session
}

fn from_environment(library: Library) -> Option<Arc<Session>> {
    environment::warn_of_unknown();
    let directory = environment::directory();
    if directory.is_none() && !environment::prints() {
        return None;
    }
    let config = settings().ok()?.clone();
    let hold = match directory.map(|directory| Run::in_directory(&directory, &config, library)).transpose() {
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
        environment::config().inspect_err(|error| {
            if environment::strict().unwrap_or(false) {
                abort(error);
            }
            warn(format_args!("{}; tracing is off", error.full()));
        })
    });
    settings.as_ref()
}

/// The session for a caller that looks at the environment on every call: that of the scope, or one that
/// records into the directory that `BITNET_TRACE_DIR` names at this moment. `None` where it names none.
///
/// # Errors
///
/// If a setting is wrong, or the directory cannot be created.
pub fn in_directory<L: TensorLibrary>() -> Result<Option<Arc<Session>>, Error> {
    if let Some(handle) = context::session_handle() {
        return Ok(handle.downcast::<Session>().ok());
    }
    environment::directory().map(|directory| opened(&directory, Library::of::<L>())).transpose()
}

fn opened(directory: &Path, library: Library) -> Result<Arc<Session>, Error> {
    /// The directory stays open until another one takes its place.
    static LAST: Mutex<Option<Hold>> = Mutex::new(None);

    environment::warn_of_unknown();
    let config = settings().map_err(repeated)?;
    let hold = Run::in_directory(directory, config, library).inspect_err(|error| {
        if config.strict {
            abort(error);
        }
    })?;
    let mut last = locked(&LAST);
    if last.as_ref().is_none_or(|last| !Arc::ptr_eq(last.run(), hold.run())) {
        *last = Some(hold.again());
    }
    drop(last);
    Ok(Arc::new(Session::new(Some(hold), config.clone())))
}

/// The error once more: settings are read once, and every caller is told.
fn repeated(error: &Error) -> Error {
    match error {
        Error::Setting { setting, found, reason, expected } => {
            Error::Setting { setting, found: found.clone(), reason: reason.clone(), expected }
        }
        other => Error::Panicked { action: "reading the settings", message: other.full() },
    }
}

/// Makes everything recorded so far readable by others. A process that ends cleanly needs no call.
pub fn flush() {
    if let Err(error) = flush_all() {
        warn(error.full());
    }
}

/// A `TraceSession` began.
pub(super) fn began() {
    *locked(&LIVE) += 1;
    set_state();
}

/// A `TraceSession` ended.
pub(super) fn ended() {
    *locked(&LIVE) -= 1;
    set_state();
}

fn set_state() {
    let live = locked(&LIVE);
    let state = match ENVIRONMENT.get() {
        _ if *live > 0 => ON,
        Some(Some(_)) => ON,
        Some(None) => OFF,
        None => UNREAD,
    };
    STATE.store(state, Ordering::Relaxed);
}
