//! The native part of the Python package `bitnet-trace`: sessions, records, traces and comparisons of
//! `bitnet-trace-core`, as classes that `bitnet_trace` wraps.
//!
//! `unsafe` is needed here because Python finds the module by a name that must be unique.
#![allow(unsafe_code)]
// The stubs `_native.pyi` document what Python sees.
#![allow(missing_docs)]

mod compare;
mod memory;
mod session;
mod site;
mod trace;

use bitnet_trace_core::Error;
use pyo3::PyErr;

pyo3::create_exception!(bitnet_trace, TraceError, pyo3::exceptions::PyException, "Tracing or comparing failed.");

fn raised(error: &Error) -> PyErr {
    TraceError::new_err(error.full())
}

#[pyo3::pymodule]
mod _native {
    #[pymodule_export]
    use crate::TraceError;
    #[pymodule_export]
    use crate::compare::{Comparison, diff, diff_paths, map_targets};
    #[pymodule_export]
    use crate::session::{Recorder, Session, flush};
    #[pymodule_export]
    use crate::site::{Site, use_torch};
    #[pymodule_export]
    use crate::trace::Trace;
}
