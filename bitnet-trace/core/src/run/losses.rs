//! Counts the records that could not be written, by cause.

use std::sync::Mutex;
use std::time::Instant;

use crate::error::Error;
use crate::failing::locked;
use crate::record::Loss;

/// The losses so far, one entry per cause.
#[derive(Debug, Default)]
pub(crate) struct Losses(Mutex<Vec<Loss>>);

impl Losses {
    /// Counts a lost record. Returns whether it is the first of its cause.
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

/// The first losses, this many, are written to `run.json` at once.
const AT_ONCE: u32 = 64;
/// After that, writing `run.json` may take at most one part in this many of the time.
const SHARE: u32 = 20;

/// Limits how often losses are written to disk: always for the first ones, and rarely enough to cost little when many
/// follow.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Number of writes so far.
    kept: u32,
    /// Earliest time of the next write.
    next: Option<Instant>,
}

impl Pace {
    /// Calls `keep`, unless the last call was too recent.
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
