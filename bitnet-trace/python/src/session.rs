//! Sessions, and the step that a session's records belong to.
//!
//! `unsafe` is needed here because the macros of pyo3 expand to it.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bitnet_trace_core::session::{self, Plain, Session as CoreSession, active};
use bitnet_trace_core::{Error, TraceContext, TraceSession};
use pyo3::prelude::*;

use crate::trace::Trace;
use crate::{TraceError, raised};

/// A session, of the environment or of the program.
#[pyclass(frozen)]
pub(crate) struct Session {
    session: Arc<CoreSession>,
    /// `None` for the session of the environment, and after `finish`.
    own: Mutex<Option<TraceSession>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Session {
    /// Starts a session; without a directory, in memory.
    #[staticmethod]
    #[pyo3(signature = (directory, filter=None, format=None, capture=None, print=None))]
    fn start(
        py: Python<'_>,
        directory: Option<PathBuf>,
        filter: Option<String>,
        format: Option<String>,
        capture: Option<String>,
        print: Option<String>,
    ) -> PyResult<Self> {
        let mut builder = TraceSession::<Plain>::builder();
        builder = match directory {
            Some(directory) => builder.dir(directory),
            None => builder.in_memory(),
        };
        if let Some(filter) = filter {
            builder = builder.filter(filter);
        }
        if let Some(format) = format {
            builder = builder.format(format);
        }
        if let Some(capture) = capture {
            builder = builder.capture(capture);
        }
        if let Some(print) = print {
            builder = builder.print(print);
        }
        let own = py.detach(|| builder.start()).map_err(|error| raised(&error))?;
        let session = own.in_scope(active::<Plain>);
        let session = session.ok_or_else(|| TraceError::new_err("the session has ended"))?;
        Ok(Self { session, own: Mutex::new(Some(own)) })
    }

    /// The session that the environment variables ask for; `None` if they ask for none.
    #[staticmethod]
    fn environment() -> Option<Self> {
        Some(Self { session: active::<Plain>()?, own: Mutex::new(None) })
    }

    #[getter]
    fn directory(&self) -> Option<PathBuf> {
        locked(&self.own).as_ref()?.directory().map(PathBuf::from)
    }

    fn recorder(&self) -> Recorder {
        Recorder(Arc::new(Recording { session: Arc::clone(&self.session), latest: Mutex::default() }))
    }

    fn annotate(&self, key: &str, json: &str) -> PyResult<()> {
        let value = serde_json::from_str(json).map_err(|error| TraceError::new_err(error.to_string()))?;
        self.session.annotate(key, value);
        Ok(())
    }

    /// Counts a record that could not be made.
    fn lose(&self, py: Python<'_>, cause: String, message: String) {
        py.detach(|| self.session.lose(&Error::Foreign { cause, message }));
    }

    /// Ends the session. Returns its trace, and what was lost as a text.
    fn finish(&self, py: Python<'_>) -> PyResult<(Trace, Option<String>)> {
        let own = locked(&self.own).take();
        let own =
            own.ok_or_else(|| TraceError::new_err("the session is finished, or it is that of the environment"))?;
        let finished = py.detach(|| own.finish());
        Ok(match finished {
            Ok(trace) => (Trace::new(trace), None),
            Err(error) => {
                let message = error.to_string();
                (Trace::new(error.into_trace()), Some(message))
            }
        })
    }
}

/// A session, and where in the model its records are now.
pub(crate) struct Recording {
    pub(crate) session: Arc<CoreSession>,
    /// The step that was set last, by any thread.
    latest: Mutex<TraceContext>,
}

thread_local! {
    /// The steps that this thread has set. The weak references keep the addresses from being used again.
    static STEPS: RefCell<Vec<(Weak<Recording>, TraceContext)>> = const { RefCell::new(Vec::new()) };
}

impl Recording {
    /// The step that this thread has set; if it has set none, as the threads of a backward pass, the latest of all.
    pub(crate) fn context(&self) -> TraceContext {
        let own = STEPS.try_with(|steps| {
            let steps = steps.borrow();
            let (_, step) = steps.iter().find(|(recording, _)| std::ptr::eq(recording.as_ptr(), self))?;
            Some(step.clone())
        });
        own.ok().flatten().unwrap_or_else(|| locked(&self.latest).clone())
    }

    fn set(self: &Arc<Self>, step: TraceContext) {
        *locked(&self.latest) = step.clone();
        // A thread that is ending has no steps of its own any more: it takes the latest.
        let _ = STEPS.try_with(|steps| {
            let mut steps = steps.borrow_mut();
            if let Some((_, own)) =
                steps.iter_mut().find(|(recording, _)| std::ptr::eq(recording.as_ptr(), &raw const **self))
            {
                *own = step;
                return;
            }
            steps.retain(|(recording, _)| recording.strong_count() > 0);
            steps.push((Arc::downgrade(self), step));
        });
    }
}

/// Gives the records of one model their step.
#[pyclass(frozen)]
pub(crate) struct Recorder(pub(crate) Arc<Recording>);

#[pymethods]
impl Recorder {
    #[pyo3(signature = (seq=None, layer=None, request=None, tokens=None))]
    fn set_step(&self, seq: Option<usize>, layer: Option<usize>, request: Option<u64>, tokens: Option<(usize, usize)>) {
        let mut step = TraceContext::default();
        (step.seq, step.layer, step.request) = (seq, layer, request);
        step.tokens = tokens.map(|(start, end)| start..end);
        self.0.set(step);
    }
}

/// Makes everything recorded so far readable by other processes.
#[pyfunction]
pub(crate) fn flush(py: Python<'_>) {
    py.detach(session::flush);
}
