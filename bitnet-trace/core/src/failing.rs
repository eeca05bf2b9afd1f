//! What keeps a failure of tracing away from the model: warnings, panics that become errors, locks that
//! outlive a panic.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Error;

/// Locks a mutex whose holder may have panicked.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line on standard error, in one write: several processes may share it. If it is closed, the
/// model goes on.
pub(crate) fn warn(message: impl fmt::Display) {
    let _ = io::stderr().write_all(format!("bitnet-trace: warning: {message}\n").as_bytes());
}

/// Calls what reads or writes a tensor: a bug there is an error, and does not reach the model.
pub(crate) fn guarded<T>(action: &'static str, f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let message = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Err(Error::Panicked { action, message: message.to_owned() })
    })
}
