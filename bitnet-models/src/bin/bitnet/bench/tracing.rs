//! How much tracing slows a decode step down.

use std::error::Error;
use std::time::Duration;

/// The filter of a debugging session: where the blocks end, and the result.
pub(super) const FILTER: &str = "stage=block_out;stage=logits";

/// Times of the same tokens without a trace, with a filtered one and with all records.
pub(super) struct Times {
    pub(super) off: Vec<Duration>,
    pub(super) filtered: Vec<Duration>,
    pub(super) all: Vec<Duration>,
}

/// Decodes in turns with and without a trace, which is written as one file of lines; `decode` returns the time of a token.
#[cfg(feature = "trace")]
pub(super) fn measure(
    rounds: usize,
    mut decode: impl FnMut() -> bitnet_models::Result<Duration>,
) -> Result<Option<Times>, Box<dyn Error>> {
    use bitnet_trace::TraceSession;

    let mut times = Times { off: Vec::new(), filtered: Vec::new(), all: Vec::new() };
    for _ in 0..rounds {
        times.off.push(TraceSession::disabled().in_scope(&mut decode)?);
        for (filter, to) in [(Some(FILTER), &mut times.filtered), (None, &mut times.all)] {
            let directory = tempfile::tempdir()?;
            let mut session = TraceSession::builder().dir(directory.path()).format("jsonl");
            if let Some(filter) = filter {
                session = session.filter(filter);
            }
            let session = session.start()?;
            to.push(session.in_scope(&mut decode)?);
            session.finish().map_err(|error| error.to_string())?;
        }
    }
    Ok(Some(times))
}

/// A build without the feature has no tracing to measure.
#[cfg(not(feature = "trace"))]
#[allow(clippy::unnecessary_wraps)] // the same call in both states
pub(super) fn measure(
    _: usize,
    _: impl FnMut() -> bitnet_models::Result<Duration>,
) -> Result<Option<Times>, Box<dyn Error>> {
    Ok(None)
}
