//! Finds the session that records now, and keeps the byte that says whether anything may record.

use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::{Session, TensorLibrary, abort, environment};
use crate::context;
use crate::error::Error;
use crate::failing::{locked, warn};
use crate::run::config::Config;
use crate::run::{Hold, Library, Run, flush_all};

/// Whether anything may record. This byte is all that a call site reads while recording is off.
static STATE: AtomicU8 = AtomicU8::new(UNREAD);
/// The environment has not been read yet.
const UNREAD: u8 = 0;
/// The [`state`] in which nothing records: no session exists, and the environment does not ask for one.
pub const OFF: u8 = 1;
const ON: u8 = 2;

/// The session of the environment, set when the environment is first read.
static ENVIRONMENT: OnceLock<Option<Arc<Session>>> = OnceLock::new();
/// Number of `TraceSession`s that exist.
static LIVE: Mutex<usize> = Mutex::new(0);

/// Returns false if recording is certainly off, and true if the caller must ask [`active`].
#[inline]
#[must_use]
pub fn may_record() -> bool {
    state() != OFF
}

/// The state as a byte: [`OFF`], or another value below 3.
#[inline]
#[must_use]
pub fn state() -> u8 {
    STATE.load(Ordering::Relaxed)
}

/// The session that records the work of this thread now; `None` if nothing records, as in the scope of a finished
/// session.
///
/// The first call reads the environment. If that begins a run, its `run.json` describes the tensor library `L`.
#[must_use]
pub fn active<L: TensorLibrary>() -> Option<Arc<Session>> {
    match context::session_handle() {
        // Nothing records in the scope of a session that stopped or no longer exists.
        Some(handle) => handle.downcast::<Session>().ok().filter(|session| *session.recording()),
        None => of_environment(Library::of::<L>()),
    }
}

fn of_environment(library: Library) -> Option<Arc<Session>> {
    // This path runs for every record, so it takes no lock.
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

/// The settings of all variables except the directory. They are read once, and a wrong value is reported once.
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

/// The session for callers that read the environment on every call: the session of the scope, or one that records into
/// the directory that `BITNET_TRACE_DIR` names now. `None` if it names none.
///
/// # Errors
///
/// [`Error::Setting`] if a variable has a wrong value, or the error of creating or claiming the directory.
pub fn in_directory<L: TensorLibrary>() -> Result<Option<Arc<Session>>, Error> {
    if let Some(handle) = context::session_handle() {
        return Ok(handle.downcast::<Session>().ok());
    }
    environment::directory().map(|directory| opened(&directory, Library::of::<L>())).transpose()
}

fn opened(directory: &Path, library: Library) -> Result<Arc<Session>, Error> {
    /// Keeps the directory open until a call names another one.
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
        *last = Some(hold.another());
    }
    drop(last);
    Ok(Arc::new(Session::new(Some(hold), config.clone())))
}

/// A copy of the error: the settings are read once, but every caller gets the error.
fn repeated(error: &Error) -> Error {
    match error {
        Error::Setting { setting, found, reason, expected } => {
            Error::Setting { setting, found: found.clone(), reason: reason.clone(), expected }
        }
        other => Error::Panicked { action: "reading the settings", message: other.full() },
    }
}

/// Makes everything recorded so far readable by other processes. A process that ends cleanly need not call it. A
/// failure is printed as a warning.
pub fn flush() {
    if let Err(error) = flush_all() {
        warn(error.full());
    }
}

/// Counts a new `TraceSession`.
pub(super) fn began() {
    *locked(&LIVE) += 1;
    set_state();
}

/// Counts a `TraceSession` out when it ends.
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
