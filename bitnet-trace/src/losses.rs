//! What could not be recorded: counted by cause, one warning each.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

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
        losses.push(Loss { cause, count: 1, first: error.to_string() });
        true
    }

    pub(crate) fn list(&self) -> Vec<Loss> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One line on standard error; a closed standard error is no reason to stop the model.
pub(crate) fn warn(message: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "bitnet-trace: warning: {message}");
}
