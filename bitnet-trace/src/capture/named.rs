//! Records tensors under names of their own: the weights of a model, and gradients.

use bitnet_trace_core::session::{self, Draft, GRAD, WEIGHT};
use bitnet_trace_core::{TraceContext, record_name};
use candle_core::backprop::GradStore;

use super::candle::Source;
use super::record::active;
use crate::annotation::AsTensor;

/// Records a model's weights, each under its own name and with `io` set to `weight`. The context plays no part.
///
/// Call it once, where the checkpoint is loaded: then a comparison tells a wrong weight from a wrong
/// computation. Each weight is read once, at the speed of its hash. Without an active session the
/// iterator is not touched; a filter such as `io!=weight` leaves the weights out.
///
/// ```
/// # use bitnet_trace::record_weights;
/// # use candle_core::{Device, Result, Tensor};
/// # use std::collections::HashMap;
/// fn loaded(checkpoint: &HashMap<String, Tensor>) {
///     record_weights(checkpoint);
/// }
/// ```
pub fn record_weights<N: AsRef<str>, T: AsTensor>(weights: impl IntoIterator<Item = (N, T)>) {
    if !session::may_record() {
        return;
    }
    let Some(session) = active() else { return };
    let context = TraceContext::default();
    for (name, tensor) in weights {
        let name = name.as_ref().to_owned();
        let draft = Draft { name, stage: None, output: None, io: WEIGHT, site: None, context: &context };
        draft.record_or_lose(&Source(tensor.as_tensor()), &session);
    }
}

/// Records the gradients of tensors, each under the name of its tensor and with `io` set to `grad`.
///
/// Call it after the backward pass of each step, with the names and parameters of the model. A tensor without a gradient
/// is passed over (`backward` of candle keeps the gradients of variables, not those of activations). If it has one on
/// the other side of a comparison, that record has no partner and is listed as missing: so a layer that was detached by
/// mistake is found.
///
/// The step comes from the open scope: inside `TraceContext::seq(step)` the record of `fc1.weight` is
/// `t{step}/fc1.weight`, and the steps of two runs are compared with each other. Without such a scope further steps are
/// repeats, `fc1.weight#1` and so on. `request` is taken from the scope too, `layer` and `tokens` are not: the name
/// says to which layer a parameter belongs.
///
/// Gradients are recorded in the order given, and a comparison names the first one that differs in that order. Errors
/// in gradients come from the layers after them, so give the last layer first. Avoid the order of a `HashMap`
/// (`VarMap::data()` is one), which is another one in every run: sort the names.
///
/// Without an active session the iterator is not touched; a filter such as `io!=grad` leaves the gradients out.
///
/// ```
/// use bitnet_trace::{TraceContext, record_gradients};
/// use candle_core::{Result, Tensor, Var};
/// use std::collections::BTreeMap;
///
/// fn train(parameters: &BTreeMap<String, Var>, x: &Tensor, wanted: &Tensor) -> Result<()> {
///     for step in 0..3 {
///         let _step = TraceContext::seq(step).enter();
///         let y = x.matmul(&parameters["fc.weight"])?.broadcast_add(&parameters["fc.bias"])?;
///         let gradients = (y - wanted)?.sqr()?.mean_all()?.backward()?;
///         record_gradients(&gradients, parameters); // t0/fc.bias, t0/fc.weight, t1/fc.bias, ...
///         for parameter in parameters.values() {
///             if let Some(gradient) = gradients.get(parameter) {
///                 parameter.set(&(parameter.as_tensor() - gradient * 0.1)?)?;
///             }
///         }
///     }
///     Ok(())
/// }
/// # let device = candle_core::Device::Cpu;
/// # let parameters = BTreeMap::from([
/// #     ("fc.weight".to_owned(), Var::new(&[[1f32], [2.0]], &device)?),
/// #     ("fc.bias".to_owned(), Var::new(&[0f32], &device)?),
/// # ]);
/// # let session = bitnet_trace::TraceSession::builder().in_memory().start()?;
/// # session.in_scope(|| train(&parameters, &Tensor::new(&[[1f32, 2.0]], &device)?, &Tensor::new(&[[1f32]], &device)?))?;
/// # let trace = session.finish()?;
/// # let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
/// # assert_eq!(names, ["t0/fc.bias", "t0/fc.weight", "t1/fc.bias", "t1/fc.weight", "t2/fc.bias", "t2/fc.weight"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn record_gradients<N: AsRef<str>, T: AsTensor>(gradients: &GradStore, tensors: impl IntoIterator<Item = (N, T)>) {
    if !session::may_record() {
        return;
    }
    let Some(session) = active() else { return };
    let TraceContext { seq, request, .. } = TraceContext::current();
    let mut context = TraceContext::default();
    (context.seq, context.request) = (seq, request);
    for (name, tensor) in tensors {
        let Some(gradient) = gradients.get(tensor.as_tensor()) else { continue };
        let stage = name.as_ref();
        let name = record_name(seq, None, stage, "");
        let draft = Draft { name, stage: Some(stage), output: None, io: GRAD, site: None, context: &context };
        draft.record_or_lose(&Source(gradient), &session);
    }
}
