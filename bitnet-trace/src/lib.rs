#![doc = include_str!("../README.md")]

extern crate self as bitnet_trace;

mod annotation;
mod site;
mod traced;

#[cfg(feature = "trace")]
mod calls;
#[cfg(feature = "trace")]
mod config;
#[cfg(feature = "trace")]
mod context;
#[cfg(feature = "trace")]
mod directory;
#[cfg(feature = "trace")]
mod dump;
#[cfg(feature = "trace")]
mod exit;
#[cfg(any(feature = "trace", feature = "cli"))]
#[cfg_attr(not(feature = "trace"), allow(dead_code, unreachable_pub, unused_imports))] // verifying takes a part of it
mod fingerprint;
#[cfg(feature = "trace")]
mod future;
#[cfg(feature = "trace")]
mod losses;
#[cfg(feature = "trace")]
mod manifest;
#[cfg(feature = "trace")]
mod module;
#[cfg(any(feature = "trace", feature = "cli"))]
mod name;
#[cfg(feature = "trace")]
mod observe;
#[cfg(feature = "trace")]
mod own;
#[cfg(feature = "trace")]
mod place;
#[cfg(feature = "trace")]
#[doc(hidden)]
pub mod private;
#[cfg(feature = "trace")]
mod recorder;
#[cfg(feature = "trace")]
mod registry;
#[cfg(feature = "trace")]
mod run;
#[cfg(feature = "trace")]
mod session;
#[cfg(feature = "trace")]
mod sink;
#[cfg(feature = "trace")]
mod trace_session;

#[cfg(not(feature = "trace"))]
mod off;

#[cfg(feature = "read")]
mod captured;
#[cfg(feature = "cli")]
mod convert;
#[cfg(feature = "read")]
mod diff;
#[cfg(feature = "read")]
mod dtype;
#[cfg(feature = "read")]
mod error;
#[cfg(feature = "read")]
mod filter;
#[cfg(feature = "read")]
mod nearest;
#[cfg(feature = "read")]
mod paths;
#[cfg(feature = "read")]
mod pattern;
#[cfg(feature = "read")]
mod pieces;
#[cfg(feature = "read")]
mod read;
#[cfg(feature = "read")]
mod record;
#[cfg(feature = "read")]
mod report;
#[cfg(feature = "read")]
mod strided;
#[cfg(feature = "cli")]
mod table;
#[cfg(feature = "cli")]
mod verify;

pub use annotation::Annotation;
/// Makes a type [`Traced`](trait@Traced): see [`traced`](macro@traced), "Types of your own".
#[cfg(feature = "trace")]
pub use bitnet_trace_macros::Traced;
/// Makes a type `Traced` that shows nothing, as tracing is not built in.
#[cfg(not(feature = "trace"))]
pub use bitnet_trace_macros::TracedOff as Traced;
#[cfg(feature = "trace")]
#[doc = include_str!("../docs/traced.md")]
pub use bitnet_trace_macros::traced;
/// The function as it is, as tracing is not built in.
#[cfg(not(feature = "trace"))]
pub use bitnet_trace_macros::traced_off as traced;
pub use site::Site;
pub use traced::{Part, TensorVisitor, Traced};

#[cfg(feature = "trace")]
pub use context::{ContextGuard, TraceContext};
#[cfg(feature = "trace")]
pub use dump::{annotate_run, dump_trace, dump_trace_with_context, flush, record_weights, tap};
#[cfg(feature = "trace")]
pub use future::Instrumented;
#[cfg(feature = "trace")]
pub use losses::Loss;
#[cfg(feature = "trace")]
pub use module::TracedModule;
#[cfg(feature = "trace")]
pub use registry::sites;
#[cfg(feature = "trace")]
pub use trace_session::{FinishError, TraceSession, TraceSessionBuilder};

#[cfg(not(feature = "trace"))]
pub use off::{
    ContextGuard, Instrumented, TraceContext, TracedModule, annotate_run, dump_trace, dump_trace_with_context, flush,
    record_weights, sites, tap,
};

#[cfg(feature = "cli")]
pub use convert::{TraceFormat, convert};
#[cfg(feature = "read")]
pub use diff::{
    Adaptation, Adapted, Cause, Comparison, Conclusion, Coverage, Details, DiffOptions, Difference, Element, Evidence,
    Key, NameMap, Needed, Origin, Pair, Share, Suggestion, Tolerance, Verdict, Where, diff, diff_paths,
};
#[cfg(feature = "read")]
pub use error::Error;
#[cfg(feature = "read")]
pub use pieces::manifest_of;
#[cfg(feature = "read")]
pub use read::Trace;
#[cfg(feature = "read")]
pub use record::TraceRecord;
#[cfg(feature = "read")]
pub use report::{Html, Screen, Table, printable};
#[cfg(feature = "cli")]
pub use verify::{Verification, verify};
