//! Ctrl-C ends the generation after the token at hand, so that the trace is complete; a second one ends the program.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;
use signal_hook::flag;

/// The exit status of a program that Ctrl-C ended, as shells give it: 128 and the number of the signal.
pub(crate) const STATUS: u8 = 130;

/// Whether Ctrl-C was pressed.
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn listen() -> io::Result<Self> {
        let pressed = Arc::new(AtomicBool::new(false));
        // The two handlers run in this order: the first time the flag is not set yet.
        flag::register_conditional_shutdown(SIGINT, i32::from(STATUS), Arc::clone(&pressed))?;
        flag::register(SIGINT, Arc::clone(&pressed))?;
        Ok(Self(pressed))
    }

    pub(crate) fn pressed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
