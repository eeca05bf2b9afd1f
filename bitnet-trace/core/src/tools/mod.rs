//! What is done with whole traces: check them, write them in another format.

mod convert;
mod verify;

pub use convert::{TraceFormat, convert, open_whole};
pub use verify::{Verification, verify};
