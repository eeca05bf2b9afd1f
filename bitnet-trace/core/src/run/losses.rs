//! What could not be recorded: counted by cause, one warning each.

use std::sync::Mutex;
use std::time::Instant;

use crate::error::Error;
use crate::failing::locked;
use crate::record::Loss;

/// Losses so far, one entry a cause.
#[derive(Debug, Default)]
pub(crate) struct Losses(Mutex<Vec<Loss>>);

impl Losses {
    /// Counts a lost record. True if it is the first of its cause.
    pub(crate) fn add(&self, error: &Error) -> bool {
        let cause = error.cause();
        let mut losses = locked(&self.0);
        if let Some(loss) = losses.iter_mut().find(|loss| loss.cause == cause) {
            loss.count += 1;
            return false;
        }
        losses.push(Loss { cause, count: 1, first: error.full() });
        true
    }

    pub(crate) fn list(&self) -> Vec<Loss> {
        locked(&self.0).clone()
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
