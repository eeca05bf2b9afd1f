//! The first Ctrl-C, or another signal to end, lets a command finish in good order: the generation ends after the token at
//! hand, so that the trace is complete, and temporary files are removed. A second one ends the program at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The exit status of a program that Ctrl-C ended, as shells give it.
pub(crate) const STATUS: u8 = status(SIGINT);

/// The exit status of a program that a signal ended, as shells give it: 128 and the number of the signal.
const fn status(signal: i32) -> u8 {
    128 + signal.to_le_bytes()[0]
}

/// Whether one of some signals came.
pub(crate) struct Interrupt {
    came: Arc<AtomicBool>,
    /// The exit status of the last one.
    status: Arc<AtomicUsize>,
}

/// The system does not let signals be handled.
#[derive(Debug, thiserror::Error)]
#[error("cannot handle signals")]
pub(crate) struct ListenError(#[from] io::Error);

impl Interrupt {
    /// Listens to Ctrl-C.
    pub(crate) fn listen() -> Result<Self, ListenError> {
        Self::listen_to(&[SIGINT])
    }

    pub(crate) fn listen_to(signals: &[i32]) -> Result<Self, ListenError> {
        let interrupt = Self { came: Arc::default(), status: Arc::default() };
        for &signal in signals {
            // The handlers run in this order: the first time the flag is not set yet.
            flag::register_conditional_shutdown(signal, status(signal).into(), Arc::clone(&interrupt.came))?;
            flag::register_usize(signal, Arc::clone(&interrupt.status), status(signal).into())?;
            flag::register(signal, Arc::clone(&interrupt.came))?;
        }
        Ok(interrupt)
    }

    pub(crate) fn pressed(&self) -> bool {
        self.came.load(Ordering::Relaxed)
    }

    /// The exit status after a signal.
    pub(crate) fn status(&self) -> u8 {
        u8::try_from(self.status.load(Ordering::Relaxed)).unwrap_or(STATUS)
    }
}
