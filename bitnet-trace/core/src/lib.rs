#![doc = include_str!("../README.md")]

mod failing;

pub mod digest;
mod error;
mod record;

mod context;
mod instrumented;
mod run;
pub mod session;
mod sink;

pub mod trace;

pub mod compare;
pub mod report;
pub mod tools;

pub use compare::{Tolerance, diff};
pub use context::{ContextGuard, ParkedContext, TraceContext};
pub use error::Error;
pub use instrumented::Instrumented;
pub use record::{TraceRecord, record_name};
pub use session::TraceSession;
pub use trace::Trace;
