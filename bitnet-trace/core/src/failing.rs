//! Keeps failures of tracing away from the model: warnings instead of errors, panics turned into errors,
//! locks that stay usable after a panic.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// Locks a mutex, also after a thread that held it panicked.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints one line on standard error. It is one write because several processes may share standard error. A
/// failure is ignored: the model goes on when standard error is closed.
pub(crate) fn warn(message: impl fmt::Display) {
    let _ = io::stderr().write_all(format!("bitnet-trace: warning: {message}\n").as_bytes());
}

/// Calls `f` and turns a panic in it into an error, so that a bug in reading or writing a tensor does not
/// reach the model.
pub(crate) fn guarded<T>(action: &'static str, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let message = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Err(Error::Panicked { action, message: message.to_owned() })
    })
}
