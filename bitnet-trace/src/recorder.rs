//! From a tensor in a context to a record in a run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use candle_core::{DeviceLocation, Tensor};

use crate::context::TraceContext;
use crate::error::Error;
use crate::fingerprint::{Wanted, fingerprint};
use crate::name::record_name;
use crate::record::TraceRecord;
use crate::session::{self, Session};
use crate::site::Site;
use crate::traced::{TensorVisitor, Traced};

/// Records every tensor of a value under a stage, in the context of this thread. Never fails: what
/// cannot be recorded is counted as lost.
#[cold]
#[inline(never)]
pub(crate) fn record_value(stage: &str, site: Option<&Site>, value: &dyn Traced) {
    let Some(session) = session::active() else { return };
    let context = TraceContext::current();
    let mut visit = |label: &str, tensor: &Tensor| {
        let draft = Draft {
            name: record_name(&context, stage, label),
            stage: Some(stage),
            output: (!label.is_empty()).then_some(label),
            site,
            context: &context,
        };
        if let Err(error) = draft.record(tensor, &session) {
            session.lose(&error);
        }
    };
    value.visit_tensors(&mut TensorVisitor::new(&mut visit));
}

/// What is known of a record before its tensor is read.
pub(crate) struct Draft<'a> {
    pub(crate) name: String,
    pub(crate) stage: Option<&'a str>,
    pub(crate) output: Option<&'a str>,
    pub(crate) site: Option<&'a Site>,
    pub(crate) context: &'a TraceContext,
}

impl Draft<'_> {
    /// Reads the tensor once and hands the record to the session's run.
    pub(crate) fn record(self, tensor: &Tensor, session: &Session) -> Result<(), Error> {
        // A bug in reading a tensor must not take the model down.
        let found = catch_unwind(AssertUnwindSafe(|| fingerprint(tensor, Wanted::default())))
            .unwrap_or_else(|_| Err(Error::NotRecordable(format!("{:?}", tensor.dtype()))))?;
        let statistics = &found.statistics;
        let record = TraceRecord {
            name: self.name,
            shape: tensor.dims().to_vec(),
            dtype: format!("{:?}", tensor.dtype()),
            blake3: found.blake3.to_hex().to_string(),
            rms: statistics.rms(),
            num_elements: tensor.elem_count(),
            seq_index: self.context.seq,
            layer_idx: self.context.layer,
            stage: self.stage.map(str::to_owned),
            order: None,
            call: 0,
            output: self.output.map(str::to_owned),
            io: None,
            request: self.context.request,
            tokens: self.context.tokens.as_ref().map(|tokens| [tokens.start, tokens.end]),
            min: statistics.min(),
            max: statistics.max(),
            mean: statistics.mean(),
            nan_count: statistics.nan_count,
            inf_count: statistics.inf_count,
            zero_count: statistics.zero_count,
            raw_blake3: found.raw_blake3.map(|hash| hash.to_hex().to_string()),
            site: self.site.map(Site::to_string),
            device: device(tensor),
        };
        let order = session.run.write(record, session.values.then_some(tensor))?;
        session.written(order);
        Ok(())
    }
}

/// `cuda:0`, `metal:0`; nothing for the CPU.
fn device(tensor: &Tensor) -> Option<String> {
    match tensor.device().location() {
        DeviceLocation::Cpu => None,
        DeviceLocation::Cuda { gpu_id } => Some(format!("cuda:{gpu_id}")),
        DeviceLocation::Metal { gpu_id } => Some(format!("metal:{gpu_id}")),
    }
}
