//! Traces that were recorded.
//!
//! `unsafe` is needed here because the macros of pyo3 expand to it.
#![allow(unsafe_code)]

use std::path::PathBuf;

use bitnet_trace_core::Trace as CoreTrace;
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::{TraceError, raised};

#[pyclass(frozen)]
pub(crate) struct Trace(pub(crate) CoreTrace);

impl Trace {
    pub(crate) fn new(trace: CoreTrace) -> Self {
        Self(trace)
    }
}

#[pymethods]
impl Trace {
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        py.detach(|| CoreTrace::open(path)).map(Self).map_err(|error| raised(&error))
    }

    /// The records in execution order, one JSON object each.
    fn records(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        let texts = py.detach(|| self.0.records().iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>());
        texts.map_err(|error| TraceError::new_err(error.to_string()))
    }

    /// Element type, shape and little-endian elements of a record; `None` if its values were not captured.
    #[allow(clippy::type_complexity)] // a tuple in Python
    fn values<'py>(
        &self,
        py: Python<'py>,
        index: usize,
    ) -> PyResult<Option<(&'static str, Vec<usize>, Bound<'py, PyBytes>)>> {
        let record = self.0.records().get(index).ok_or_else(|| PyIndexError::new_err("no such record"))?;
        let values = py.detach(|| self.0.values(record)).map_err(|error| raised(&error))?;
        Ok(values.map(|values| (values.dtype.name(), values.shape, PyBytes::new(py, &values.bytes))))
    }

    /// The content of `run.json` as JSON.
    fn manifest(&self) -> PyResult<Option<String>> {
        let text = self.0.manifest().map(serde_json::to_string).transpose();
        text.map_err(|error| TraceError::new_err(error.to_string()))
    }

    fn problems(&self) -> Vec<String> {
        self.0.problems().iter().map(bitnet_trace_core::Error::full).collect()
    }
}
