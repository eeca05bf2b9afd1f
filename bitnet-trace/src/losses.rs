//! What could not be recorded: counted by cause, one warning each.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

use crate::error::Error;

/// Records lost for one cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What went wrong, in words that are the same for every record lost to it.
    pub cause: String,
    /// How many records.
    pub count: u64,
    /// The whole message of the first.
    pub first: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.count, self.first)
    }
}

/// Losses so far, one entry a cause.
#[derive(Debug, Default)]
pub(crate) struct Losses(Mutex<Vec<Loss>>);

impl Losses {
    /// Counts a lost record. True if it is the first of its cause.
    pub(crate) fn add(&self, error: &Error) -> bool {
        let cause = error.cause();
        let mut losses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loss) = losses.iter_mut().find(|loss| loss.cause == cause) {
            loss.count += 1;
            return false;
        }
        losses.push(Loss { cause, count: 1, first: error.full() });
        true
    }

    pub(crate) fn list(&self) -> Vec<Loss> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Losses whose `run.json` is written at once.
const AT_ONCE: u32 = 64;
/// After these, at most this share of the time goes into it: one part in so many.
const SHARE: u32 = 20;

/// How often losses are put on disk: all of the first few, and of a flood as many as cost little.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    kept: u32,
    /// Not before this moment.
    next: Option<Instant>,
}

impl Pace {
    /// Calls `keep`, unless that was just done.
    pub(crate) fn keep(&mut self, keep: impl FnOnce()) {
        let now = Instant::now();
        if self.kept >= AT_ONCE && self.next.is_some_and(|next| now < next) {
            return;
        }
        keep();
        self.kept = self.kept.saturating_add(1);
        let end = Instant::now();
        self.next = Some(end + (end - now) * SHARE);
    }
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
