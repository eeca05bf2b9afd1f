//! From a tensor in a context to a record in a run.

use candle_core::{DeviceLocation, Tensor};

use crate::config::Config;
use crate::context::TraceContext;
use crate::error::Error;
use crate::filter::{Filter, Rest, Subject};
use crate::fingerprint::{Fingerprint, Wanted, fingerprint};
use crate::losses::guarded;
use crate::name::record_name;
use crate::record::TraceRecord;
use crate::session::{self, Session};
use crate::sink::print;
use crate::site::Site;
use crate::traced::{TensorVisitor, Traced};

/// Notes that an annotated function was called, whether or not that makes a record.
#[cold]
#[inline(never)]
pub(crate) fn reach(site: &'static Site) {
    if let Some(run) = session::active().and_then(|session| session.run.clone()) {
        run.reach(site);
    }
}

/// Records every tensor of a value under a stage, in the context of this thread. Never fails: what
/// cannot be recorded is counted as lost.
#[cold]
#[inline(never)]
pub(crate) fn record_value(stage: &str, site: Option<&'static Site>, value: &dyn Traced) {
    let Some(session) = session::active() else { return };
    let decide = || session.wants(&Subject { stage: Some(stage), io: OUT, rest: None });
    if site.map_or_else(decide, |site| site.decided(session.number, decide)) == Some(false) {
        return;
    }
    let context = TraceContext::current();
    let mut visit = |label: &str, tensor: &Tensor| {
        let draft = Draft {
            name: record_name(&context, stage, label),
            stage: Some(stage),
            output: (!label.is_empty()).then_some(label),
            io: OUT,
            site,
            context: &context,
        };
        draft.record_or_lose(tensor, &session);
    };
    let outputs = site.map_or(&[][..], |site| site.outputs);
    value.visit_tensors(&mut TensorVisitor::new(&mut visit).with_names(outputs));
}

/// Records every tensor of an argument, before the function's body runs.
#[cold]
#[inline(never)]
pub(crate) fn record_input(site: &Site, argument: &str, value: &dyn Traced) {
    let Some(session) = session::active() else { return };
    if session.wants(&Subject { stage: Some(site.stage), io: IN, rest: None }) == Some(false) {
        return;
    }
    let context = TraceContext::current();
    let mut visit = |label: &str, tensor: &Tensor| {
        let output = if label.is_empty() { argument.to_owned() } else { format!("{argument}.{label}") };
        let draft = Draft {
            name: record_name(&context, site.stage, &format!("{IN}.{output}")),
            stage: Some(site.stage),
            output: Some(&output),
            io: IN,
            site: Some(site),
            context: &context,
        };
        draft.record_or_lose(tensor, &session);
    };
    value.visit_tensors(&mut TensorVisitor::new(&mut visit));
}

/// What filters call the records of what functions return.
pub(crate) const OUT: &str = "out";

/// What filters and records call the records of arguments.
const IN: &str = "in";

/// What filters and records call the records of weights.
pub(crate) const WEIGHT: &str = "weight";

/// What is known of a record before its tensor is read.
pub(crate) struct Draft<'a> {
    pub(crate) name: String,
    pub(crate) stage: Option<&'a str>,
    pub(crate) output: Option<&'a str>,
    pub(crate) io: &'a str,
    pub(crate) site: Option<&'a Site>,
    pub(crate) context: &'a TraceContext,
}

impl Draft<'_> {
    /// Records; what cannot be recorded is counted as lost.
    pub(crate) fn record_or_lose(self, tensor: &Tensor, session: &Session) {
        if let Err(error) = self.record(tensor, session) {
            session.lose(&error);
        }
    }

    /// Asks the filters; then reads the tensor once and hands the record to the session.
    pub(crate) fn record(self, tensor: &Tensor, session: &Session) -> Result<(), Error> {
        let subject = self.subject();
        let accepts = |filter: &Filter| filter.accepts(&subject) == Some(true);
        let wants = |filter: &Option<Filter>| filter.as_ref().is_some_and(accepts);
        let Config { filter, capture, print, .. } = &session.config;
        let kept = session.run.is_some() && accepts(filter);
        let printed = wants(print);
        if !kept && !printed {
            return Ok(());
        }
        let wanted = Wanted { sketch: kept && wants(&capture.sketch), rows: kept && wants(&capture.rows) };
        let values = wants(&capture.values);

        let found = guarded("reading the tensor", || fingerprint(tensor, wanted))?;
        let mut record = self.record_of(tensor, &found);
        let outcome = if kept { session.keep(&mut record, values.then_some(tensor)) } else { Ok(()) };
        if printed {
            print::print(&record);
        }
        outcome
    }

    fn subject(&self) -> Subject<'_> {
        let TraceContext { seq, layer, request, .. } = *self.context;
        Subject { stage: self.stage, io: self.io, rest: Some(Rest { name: &self.name, layer, seq, request }) }
    }

    fn record_of(self, tensor: &Tensor, found: &Fingerprint) -> TraceRecord {
        let statistics = &found.statistics;
        TraceRecord {
            name: self.name,
            shape: tensor.dims().to_vec(),
            dtype: format!("{:?}", tensor.dtype()),
            blake3: found.blake3_text(),
            rms: statistics.rms(),
            num_elements: tensor.elem_count(),
            seq_index: self.context.seq,
            layer_idx: self.context.layer,
            stage: self.stage.map(str::to_owned),
            order: None,
            call: 0,
            output: self.output.map(str::to_owned),
            io: (self.io != OUT).then(|| self.io.to_owned()),
            request: self.context.request,
            tokens: self.context.tokens.as_ref().map(|tokens| [tokens.start, tokens.end]),
            min: statistics.min(),
            max: statistics.max(),
            mean: statistics.mean(),
            nan_count: statistics.nan_count,
            inf_count: statistics.inf_count,
            zero_count: statistics.zero_count,
            sketch: found.sketch_text(),
            rows: found.rows_text(),
            values: None,
            raw_blake3: found.raw_blake3_text(),
            site: self.site.map(|site| site.text().to_owned()),
            device: device(tensor),
        }
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
