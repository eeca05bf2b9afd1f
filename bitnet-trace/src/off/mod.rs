//! The library without the feature `trace`: the names of `capture`, inlined to nothing.

mod context;
mod functions;

/// Implements `Traced` for a type with a body that shows nothing, because tracing is not built in.
pub use bitnet_trace_macros::TracedOff as Traced;
/// Leaves the function as it is, because tracing is not built in.
pub use bitnet_trace_macros::traced_off as traced;
pub use context::{ContextGuard, Instrumented, TraceContext};
pub use functions::{
    TracedModule, annotate_run, dump_trace, dump_trace_with_context, flush, record_gradients, record_weights, sites,
    tap,
};
