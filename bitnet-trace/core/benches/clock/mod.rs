//! The clock of the benchmarks: all sides run in turns, and the median of each counts.

use rustix::time::{ClockId, clock_gettime};

/// Median seconds of a call of each side, by the clock.
pub(crate) fn medians<const N: usize>(
    rounds: usize,
    calls: usize,
    now: impl Fn() -> f64,
    mut sides: [&mut dyn FnMut(); N],
) -> [f64; N] {
    let mut times = [const { Vec::new() }; N];
    for round in 0..=rounds {
        for (side, times) in sides.iter_mut().zip(&mut times) {
            let begin = now();
            (0..calls).for_each(|_| side());
            // The first round warms caches and buffers.
            if round > 0 {
                times.push((now() - begin) / count(calls));
            }
        }
    }
    times.map(|mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    })
}

/// Processor time of this thread.
pub(crate) fn thread_seconds() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    #[allow(clippy::cast_precision_loss)] // hours, in nanoseconds
    let seconds = now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9;
    seconds
}

#[allow(clippy::cast_precision_loss)] // small
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}
