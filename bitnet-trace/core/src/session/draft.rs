//! Makes a record from a tensor and its context, and writes it to a run.

use std::sync::Arc;

use super::{Plain, Session, active, may_record};
use crate::context::TraceContext;
use crate::digest::{Digest, TensorSource, TensorView, Wanted, digest};
use crate::error::Error;
use crate::failing::guarded;
use crate::record::filter::{Filter, Rest, Subject};
use crate::record::{TraceRecord, record_name};
use crate::run::config::Config;
use crate::sink::print;

/// The `io` of a returned tensor in filters; records leave it out.
pub const OUT: &str = "out";

/// The `io` of an argument in filters and records.
pub const IN: &str = "in";

/// The `io` of a variable that a body binds, in filters and records.
pub const LET: &str = "let";

/// The `io` of a weight in filters and records.
pub const WEIGHT: &str = "weight";

/// The `io` of a gradient in filters and records.
pub const GRAD: &str = "grad";

/// Records a tensor under a stage, in the context of this thread, if a session records. It never fails: a tensor that
/// cannot be recorded is counted as lost.
///
/// ```
/// use bitnet_trace_core::TraceContext;
/// use bitnet_trace_core::digest::{Elements, TensorView};
/// use bitnet_trace_core::session::record;
///
/// let _layer = TraceContext::layer(3).enter();
/// let data = [1f32, 2.0, 3.0, 4.0];
/// // A 2x2 tensor by its strides: views of larger tensors need no copy either.
/// record("q_proj", &TensorView::strided(Elements::F32(&data), 0, &[2, 2], &[2, 1])?);
/// # Ok::<(), bitnet_trace_core::Error>(())
/// ```
pub fn record(stage: &str, tensor: &dyn TensorSource) {
    if !may_record() {
        return;
    }
    let Some(session): Option<Arc<Session>> = active::<Plain>() else { return };
    let context = TraceContext::current();
    let name = record_name(context.seq, context.layer, stage, "");
    let draft = Draft { name, stage: Some(stage), output: None, io: OUT, site: None, context: &context };
    draft.record_or_lose(tensor, &session);
}

/// The facts about a record that are known before its tensor is read.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The name, as [`record_name`] makes it: `t{seq}/blk{layer}/{stage}`, then the argument or label.
    pub name: String,
    /// The name of the computation: `q_proj`.
    pub stage: Option<&'a str>,
    /// The label if a function returned several tensors, or the argument's name.
    pub output: Option<&'a str>,
    /// [`OUT`], [`IN`], [`LET`], [`WEIGHT`] or [`GRAD`].
    pub io: &'a str,
    /// `file:line function` of the annotated function.
    pub site: Option<&'a str>,
    /// The step, layer, request and token positions of the record.
    pub context: &'a TraceContext,
}

impl Draft<'_> {
    /// Does the same as [`record`](Self::record), but counts a failure as a loss of the session.
    pub fn record_or_lose(self, tensor: &dyn TensorSource, session: &Session) {
        if let Err(error) = self.record(tensor, session) {
            session.lose(&error);
        }
    }

    /// Applies the filters. If they accept the record, reads the tensor once and hands the record to the session.
    ///
    /// # Errors
    ///
    /// An error if the tensor cannot be read or the record cannot be written. The caller must count the loss.
    pub fn record(self, tensor: &dyn TensorSource, session: &Session) -> Result<(), Error> {
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
        let device = tensor.device();
        let mut draft = Some(self);
        let mut outcome = Ok(());
        guarded("reading the tensor", || {
            tensor.with_view(&mut |view| {
                let Some(draft) = draft.take() else { return Ok(()) };
                let found = digest(view, wanted);
                let mut record = draft.record_of(view, &found, device.clone());
                if kept {
                    outcome = guarded("writing the record", || session.keep(&mut record, values.then_some(view)));
                }
                if printed {
                    print::print(&record);
                }
                Ok(())
            })
        })?;
        if draft.is_some() {
            return Err(Error::Tensor("its source showed no view of it".into()));
        }
        outcome
    }

    fn subject(&self) -> Subject<'_> {
        let TraceContext { seq, layer, request, .. } = *self.context;
        Subject { stage: self.stage, io: self.io, rest: Some(Rest { name: &self.name, layer, seq, request }) }
    }

    fn record_of(self, view: &TensorView<'_>, found: &Digest, device: Option<String>) -> TraceRecord {
        let statistics = &found.statistics;
        TraceRecord {
            name: self.name,
            shape: view.shape().to_vec(),
            dtype: view.dtype().name().to_owned(),
            blake3: found.blake3_text(),
            rms: statistics.rms(),
            num_elements: view.count(),
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
            site: self.site.map(str::to_owned),
            device,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::record;
    use crate::digest::{Elements, TensorSource, TensorView};
    use crate::error::Error;
    use crate::session::TraceSession;

    /// A tensor that panics when it is read.
    struct Broken;

    impl TensorSource for Broken {
        fn with_view(&self, _: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error> {
            panic!("the device is gone")
        }
    }

    /// A tensor that is never shown.
    struct Silent;

    impl TensorSource for Silent {
        fn with_view(&self, _: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error> {
            Ok(())
        }
    }

    #[test]
    fn a_source_that_shows_no_view_loses_its_record() {
        let session: TraceSession = TraceSession::builder().in_memory().start().expect("a session");
        session.in_scope(|| record("silent", &Silent));
        let error = session.finish().expect_err("a record is lost");
        let [loss] = error.losses() else { panic!("{error}") };
        assert!(loss.count == 1 && loss.first.contains("showed no view"), "{}", loss.first);
    }

    #[test]
    fn a_panic_in_reading_a_tensor_is_reported_as_what_it_is() {
        let session: TraceSession = TraceSession::builder().in_memory().start().expect("a session");
        session.in_scope(|| {
            record("broken", &Broken);
            record("whole", &TensorView::contiguous(Elements::F32(&[1.0]), &[1]).expect("one element"));
        });
        let error = session.finish().expect_err("a record is lost");
        let [loss] = error.losses() else { panic!("{error}") };
        assert_eq!((loss.cause.as_str(), loss.count), ("reading the tensor panicked", 1));
        assert!(loss.first.contains("the device is gone"), "{}", loss.first);
        assert_eq!(error.trace().records().len(), 1);
    }
}
