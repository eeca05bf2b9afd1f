//! The library without the feature `trace`: the names of `capture`, inlined to nothing.

mod context;
mod functions;

/// Makes a type `Traced` that shows nothing, as tracing is not built in.
pub use bitnet_trace_macros::TracedOff as Traced;
/// The function as it is, as tracing is not built in.
pub use bitnet_trace_macros::traced_off as traced;
pub use context::{ContextGuard, Instrumented, TraceContext};
pub use functions::{
    TracedModule, annotate_run, dump_trace, dump_trace_with_context, flush, record_weights, sites, tap,
};
