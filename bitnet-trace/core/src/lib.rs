#![doc = include_str!("../README.md")]

// Each floor imports only floors above it in this list.
mod error;
mod failing;
mod serial;

pub mod digest;
mod record;

// Reading: a trace directory becomes a `Trace`.
pub mod trace;

// Recording: a tensor becomes a record in a trace directory.
mod context;
mod instrumented;
mod sink;

mod run;

pub mod session;

// Comparing: two traces become a verdict and a report. Nothing above imports these.
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
