//! Sessions that record candle's tensors.

use super::candle::Candle;

/// Records what runs inside [`in_scope`](bitnet_trace_core::TraceSession::in_scope), whatever the environment
/// says: two configurations in one process, traces in unit tests.
///
/// ```
/// use bitnet_trace::{TraceSession, traced};
/// use candle_core::{Device, Result, Tensor};
///
/// #[traced(stage = "double")]
/// fn double(x: &Tensor) -> Result<Tensor> {
///     x + x
/// }
///
/// fn main() -> Result<()> {
///     let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
///     let session = TraceSession::builder().in_memory().start().expect("nothing to fail");
///     session.in_scope(|| double(&x))?;
///     let trace = session.finish().expect("nothing was lost");
///     assert_eq!(trace.records()[0].stage.as_deref(), Some("double"));
///     assert_eq!(trace.records()[0].max, Some(4.0));
///     Ok(())
/// }
/// ```
pub type TraceSession = bitnet_trace_core::TraceSession<Candle>;

/// Configures a [`TraceSession`].
pub type TraceSessionBuilder = bitnet_trace_core::session::TraceSessionBuilder<Candle>;
