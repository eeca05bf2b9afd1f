//! A place in a model that records tensors: what of a record is known before its tensor is there.
//!
//! `unsafe` is needed here because the macros of pyo3 expand to it.
#![allow(unsafe_code)]

use std::sync::Arc;

use bitnet_trace_core::digest::Dtype;
use bitnet_trace_core::session::{Draft, GRAD, IN, LET, OUT};
use bitnet_trace_core::{Error, TraceContext, record_name};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString};

use crate::memory::Memory;
use crate::session::{Recorder, Recording};

/// Tensors of fewer bytes are read without releasing the interpreter: to release it costs more than it gives.
const RELEASES_INTERPRETER: usize = 1 << 18;

/// What this module needs to know of torch: the element type of each `torch.dtype`, and the layout of dense tensors.
struct Torch {
    dtypes: Py<PyDict>,
    strided: Py<PyAny>,
}

static TORCH: PyOnceLock<Torch> = PyOnceLock::new();

/// Tells the names of the element types by `torch.dtype`, and `torch.strided`.
#[pyfunction]
pub(crate) fn use_torch(py: Python<'_>, dtypes: Py<PyDict>, strided: Py<PyAny>) {
    // The first call of the process tells it for all.
    let _ = TORCH.set(py, Torch { dtypes, strided });
}

#[pyclass(frozen)]
pub(crate) struct Site {
    recording: Arc<Recording>,
    /// `None` if the name is made of step, layer and stage.
    name: Option<String>,
    stage: Option<String>,
    layer: Option<usize>,
    output: Option<String>,
    io: &'static str,
}

#[pymethods]
impl Site {
    #[new]
    #[pyo3(signature = (recorder, name, stage=None, layer=None, output=None, io=OUT))]
    fn new(
        recorder: &Recorder,
        name: Option<String>,
        stage: Option<String>,
        layer: Option<usize>,
        output: Option<String>,
        io: &str,
    ) -> PyResult<Self> {
        let io = [OUT, IN, LET, GRAD].into_iter().find(|known| *known == io);
        let io = io.ok_or_else(|| PyValueError::new_err("`io` must be `out`, `in`, `let` or `grad`"))?;
        if name.is_none() && stage.is_none() {
            return Err(PyValueError::new_err("a record needs a name or a stage"));
        }
        Ok(Self { recording: Arc::clone(&recorder.0), name, stage, layer, output, io })
    }

    /// Records a tensor of torch in the memory of the host. Returns false if it is not one that can be read where it
    /// lies.
    fn tensor(&self, tensor: &Bound<'_, PyAny>) -> bool {
        // A tensor that does not say where its elements are needs more than this: the caller finds out why.
        self.read(tensor).unwrap_or(false)
    }

    /// Records what lies at an address. The caller keeps it alive until this returns. Strides count elements.
    #[pyo3(signature = (address, dtype, shape, strides, device=None))]
    #[allow(clippy::needless_pass_by_value)] // as pyo3 converts arguments
    fn memory(
        &self,
        py: Python<'_>,
        address: usize,
        dtype: &str,
        shape: Dimensions,
        strides: Dimensions,
        device: Option<&str>,
    ) -> PyResult<()> {
        self.record(py, Memory::new(address, of_name(dtype)?, &shape, &strides, None, device));
        Ok(())
    }

    /// Whether the filters accept a record of this place in the step of now.
    fn wants(&self) -> bool {
        let context = self.context();
        let name = self.name_in(context.seq, context.layer);
        self.recording.session.wants_record(&name, self.stage.as_deref(), self.io, &context)
    }

    /// Counts a record that could not be made.
    fn lose(&self, py: Python<'_>, cause: String, message: String) {
        py.detach(|| self.recording.session.lose(&Error::Foreign { cause, message }));
    }
}

/// Dimensions or strides. They are not negative, as Python checks when it makes them numbers of this type.
type Dimensions = Vec<usize>;

fn of_name(name: &str) -> PyResult<Dtype> {
    Dtype::of_record(name).ok_or_else(|| PyValueError::new_err(format!("unknown type of elements {name:?}")))
}

impl Site {
    fn read(&self, tensor: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = tensor.py();
        let Some(torch) = TORCH.get(py) else { return Ok(false) };
        if !tensor.getattr(intern!(py, "is_cpu"))?.is_truthy()?
            || !tensor.getattr(intern!(py, "layout"))?.is(&torch.strided)
        {
            return Ok(false);
        }
        let Some(dtype) = torch.dtypes.bind(py).get_item(tensor.getattr(intern!(py, "dtype"))?)? else {
            return Ok(false);
        };
        if tensor.call_method0(intern!(py, "is_neg"))?.is_truthy()? {
            return Ok(false);
        }
        let dtype = of_name(&dtype.cast::<PyString>()?.to_cow()?)?;
        let number = |method: &Bound<'_, PyString>| tensor.call_method0(method)?.extract::<usize>();
        let address = number(intern!(py, "data_ptr"))?;
        let storage = tensor.call_method0(intern!(py, "untyped_storage"))?;
        let stored: usize = storage.call_method0(intern!(py, "nbytes"))?.extract()?;
        let room = stored.saturating_sub(number(intern!(py, "storage_offset"))?.saturating_mul(dtype.size()));
        let shape: Dimensions = tensor.getattr(intern!(py, "shape"))?.extract()?;
        let strides: Dimensions = tensor.call_method0(intern!(py, "stride"))?.extract()?;
        self.record(py, Memory::new(address, dtype, &shape, &strides, Some(room), None));
        Ok(true)
    }

    /// The context of a record that is made now. A gradient has the name of its tensor, which says the layer.
    fn context(&self) -> TraceContext {
        let mut context = self.recording.context();
        if self.io == GRAD {
            (context.layer, context.tokens) = (None, None);
        } else {
            context.layer = self.layer.or(context.layer);
        }
        context
    }

    fn name_in(&self, seq: Option<usize>, layer: Option<usize>) -> String {
        match (&self.name, &self.stage) {
            (Some(name), _) => name.clone(),
            (None, stage) => record_name(seq, layer, stage.as_deref().unwrap_or_default(), ""),
        }
    }

    fn record(&self, py: Python<'_>, memory: Result<Memory<'_>, Error>) {
        let session = &self.recording.session;
        let memory = match memory {
            Ok(memory) => memory,
            Err(error) => return py.detach(|| session.lose(&error)),
        };
        let context = self.context();
        let name = self.name_in(context.seq, context.layer);
        let (stage, output) = (self.stage.as_deref(), self.output.as_deref());
        let draft = Draft { name, stage, output, io: self.io, site: None, context: &context };
        if memory.bytes() < RELEASES_INTERPRETER {
            draft.record_or_lose(&memory, session);
        } else {
            py.detach(|| draft.record_or_lose(&memory, session));
        }
    }
}
