//! The functions: `dump_trace` as in the earlier tracer, `tap`, `annotate_run`.

use bitnet_trace_core::session::{self, Draft, OUT};
use bitnet_trace_core::{Error, TraceContext};
use candle_core::Tensor;
use serde_json::Value;

use super::candle::{Candle, Source};
use super::record::{active, record_value};
use crate::annotation::{Annotation, Traced};

/// Records one tensor under a name, if `BITNET_TRACE_DIR` is set now (or inside a session's scope).
///
/// The variable is read on every call. For code that runs often, `#[traced]` and [`tap`] are cheaper:
/// they read it once.
///
/// # Errors
///
/// If the directory cannot be created, the record cannot be written, or the tensor cannot be read.
pub fn dump_trace(name: &str, tensor: &Tensor) -> candle_core::Result<()> {
    dump_trace_with_context(name, tensor, None, None, None)
}

/// [`dump_trace`] with the step, layer and stage of the tensor. What is `None` stays out of the record:
/// it is not filled in from an open [`TraceContext`].
///
/// # Errors
///
/// As for [`dump_trace`].
pub fn dump_trace_with_context(
    name: &str,
    tensor: &Tensor,
    seq_index: Option<usize>,
    layer_idx: Option<usize>,
    stage: Option<&str>,
) -> candle_core::Result<()> {
    let failed = |error: Error| candle_core::Error::msg(error.full());
    let Some(session) = session::in_directory::<Candle>().map_err(failed)? else { return Ok(()) };
    let mut context = TraceContext::default();
    (context.seq, context.layer) = (seq_index, layer_idx);
    let draft = Draft { name: name.to_owned(), stage, output: None, io: OUT, site: None, context: &context };
    draft.record(&Source(tensor), &session).map_err(|error| {
        session.lose(&error);
        failed(error)
    })
}

/// Records a value from inside a function's body.
///
/// ```
/// # use bitnet_trace::tap;
/// # use candle_core::{Device, Result, Tensor};
/// fn rope(q: &Tensor, k: &Tensor) -> Result<(Tensor, Tensor)> {
///     let q = (q * 2.0)?;
///     tap("q_rope", &q);
///     Ok((q, k.clone()))
/// }
/// ```
#[inline]
pub fn tap<T: Traced>(stage: &str, value: &T) {
    if session::may_record() {
        record_value(stage, None, value);
    }
}

/// Puts a fact about the run into `run.json`, at once: the checkpoint's digest, the prompt, the token
/// ids.
///
/// A key that is given again gets the new value. Without an active session nothing happens.
pub fn annotate_run(key: &str, value: impl Into<Annotation>) {
    if session::may_record()
        && let Some(session) = active()
    {
        session.annotate(key, json(value.into()));
    }
}

/// Converts to the form in `run.json`; a number that is not finite becomes `null`.
fn json(value: Annotation) -> Value {
    match value {
        Annotation::Bool(value) => value.into(),
        Annotation::Integer(value) => value.into(),
        Annotation::Unsigned(value) => value.into(),
        Annotation::Float(value) => value.into(),
        Annotation::Text(value) => value.into(),
        Annotation::List(values) => values.into_iter().map(json).collect(),
    }
}
