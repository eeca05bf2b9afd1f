//! Makes the drafts of records from a value and its context.

use std::sync::Arc;

use bitnet_trace_core::session::{self, Draft, IN, LET, OUT, Session};
use bitnet_trace_core::{TraceContext, record_name};
use candle_core::Tensor;

use super::call_site::CallSite;
use super::candle::{Candle, Source};
use crate::annotation::{TensorVisitor, Traced};

/// The session that records what this thread does now.
pub(crate) fn active() -> Option<Arc<Session>> {
    session::active::<Candle>()
}

/// Notes that an annotated function was called, even if no record follows.
#[cold]
#[inline(never)]
pub(crate) fn reach(site: &'static CallSite) {
    if let Some(session) = active()
        && let Some(run) = session.run_number()
        && site.reach(run)
    {
        session.reach(site.number());
    }
}

/// Records every tensor of a value under a stage, in the context of this thread. Never fails: what
/// cannot be recorded is counted as lost.
#[cold]
#[inline(never)]
pub(crate) fn record_value(stage: &str, site: Option<&'static CallSite>, value: &dyn Traced) {
    let Some(session) = active() else { return };
    let wanted = match site {
        Some(site) => site.wanted_by(&session, OUT),
        None => session.wants_stage(stage, OUT),
    };
    if wanted == Some(false) {
        return;
    }
    let context = TraceContext::current();
    let mut visit = |label: &str, tensor: &Tensor| {
        let draft = Draft {
            name: record_name(context.seq, context.layer, stage, label),
            stage: Some(stage),
            output: (!label.is_empty()).then_some(label),
            io: OUT,
            site: site.map(CallSite::text),
            context: &context,
        };
        draft.record_or_lose(&Source(tensor), &session);
    };
    let outputs = site.map_or(&[][..], |site| site.outputs);
    value.visit_tensors(&mut TensorVisitor::new(&mut visit).with_names(outputs));
}

/// Records every tensor of an argument, before the function's body runs.
#[cold]
#[inline(never)]
pub(crate) fn record_input(site: &CallSite, argument: &str, value: &dyn Traced) {
    let Some(session) = active() else { return };
    if session.wants_stage(site.stage, IN) == Some(false) {
        return;
    }
    record_variable(&session, site, IN, argument, value);
}

/// Records every tensor of a variable that was just bound.
pub(crate) fn record_local(site: &CallSite, variable: &str, value: &dyn Traced) {
    let Some(session) = active() else { return };
    if site.wanted_by(&session, LET) == Some(false) {
        return;
    }
    record_variable(&session, site, LET, variable, value);
}

fn record_variable(session: &Session, site: &CallSite, io: &str, variable: &str, value: &dyn Traced) {
    let context = TraceContext::current();
    let mut visit = |label: &str, tensor: &Tensor| {
        let output = if label.is_empty() { variable.to_owned() } else { format!("{variable}.{label}") };
        let draft = Draft {
            name: record_name(context.seq, context.layer, site.stage, &format!("{io}.{output}")),
            stage: Some(site.stage),
            output: Some(&output),
            io,
            site: Some(site.text()),
            context: &context,
        };
        draft.record_or_lose(&Source(tensor), session);
    };
    value.visit_tensors(&mut TensorVisitor::new(&mut visit));
}
