//! Capturing: from a value that a model computes to records of its tensors.

mod binding;
mod call_site;
mod candle;
mod functions;
mod future;
mod layers;
mod module;
mod named;
mod observe;
#[doc(hidden)]
pub mod private;
mod record;
mod session;
mod sites;

pub use bitnet_trace_core::session::{FinishError, flush};
pub use bitnet_trace_core::{ContextGuard, Instrumented, TraceContext};
/// Makes a type [`Traced`](trait@crate::Traced): see [`traced`](macro@traced), "Types of your own".
pub use bitnet_trace_macros::Traced;
#[doc = include_str!("../../docs/traced.md")]
pub use bitnet_trace_macros::traced;

pub(crate) use call_site::CallSite;
pub use functions::{annotate_run, dump_trace, dump_trace_with_context, tap};
pub use module::TracedModule;
pub use named::{record_gradients, record_weights};
pub use session::{TraceSession, TraceSessionBuilder};
pub use sites::sites;
