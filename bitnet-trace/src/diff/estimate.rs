//! The numbers of a difference without the elements: from the sketches, or from the statistics.
#![allow(clippy::cast_precision_loss)] // counts

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::record::TraceRecord;

use super::cause::factor;
use super::metric::Sums;
use super::verdict::{Cause, Difference, Evidence};

/// Statistics of one set of numbers in two orders agree at least to this.
const SAME: f64 = 1e-9;

/// Fewer elements than this have equal statistics too easily.
const ENOUGH: usize = 64;

fn sketch(record: &TraceRecord) -> Option<[f64; 64]> {
    let bytes = STANDARD.decode(record.sketch.as_ref()?).ok()?;
    let (sums, []) = bytes.as_chunks::<4>() else { return None };
    let sums: Vec<f64> = sums.iter().map(|sum| f64::from(f32::from_le_bytes(*sum))).collect();
    sums.try_into().ok().filter(|sums: &[f64; 64]| sums.iter().all(|sum| sum.is_finite()))
}

/// |sketch(a) - sketch(b)| over |a|, which is rms sqrt(n) where all is finite and else the sketch's
/// own norm.
pub(crate) fn measure(reference: &TraceRecord, trace: &TraceRecord) -> (Difference, Option<Cause>) {
    let statistics = Difference::unknown(Evidence::Statistics);
    if trace.num_elements > 0 && trace.zero_count == trace.num_elements && reference.zero_count < reference.num_elements
    {
        let difference = Difference { rel_l2: Some(1.0), cosine: Some(0.0), ..statistics };
        return (difference, Some(Cause::AllZero));
    }
    let Some((a, b)) = sketch(reference).zip(sketch(trace)) else {
        return (statistics, None);
    };
    let mut sums = Sums::default();
    a.iter().zip(b).for_each(|(x, y)| sums.add(*x, y));
    let norm = reference.rms * (reference.num_elements as f64).sqrt();
    let error = a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
    let rel_l2 = if error == 0.0 {
        0.0
    } else if norm.is_finite() {
        error / norm
    } else {
        sums.rel_l2()
    };
    let difference =
        Difference { rel_l2: Some(rel_l2), cosine: Some(sums.cosine()), ..Difference::unknown(Evidence::Sketch) };
    let finite = reference.nan_count + reference.inf_count + trace.nan_count + trace.inf_count == 0;
    let cause = sums.ratio().filter(|_| finite).and_then(|(ratio, left)| factor(ratio, left));
    (difference, cause.or_else(|| permuted(reference, trace, rel_l2)))
}

/// Another order of the same numbers leaves every statistic as it is, and the sketch not.
fn permuted(reference: &TraceRecord, trace: &TraceRecord, error: f64) -> Option<Cause> {
    let near = |a: f64, b: f64| (a - b).abs() <= SAME * a.abs().max(b.abs());
    let same = reference.min == trace.min
        && reference.max == trace.max
        && reference.min != reference.max
        && reference.zero_count == trace.zero_count
        && near(reference.rms, trace.rms)
        && near(reference.mean? * 1e6 + 1.0, trace.mean? * 1e6 + 1.0);
    (same && reference.num_elements >= ENOUGH && error > 1e-2).then_some(Cause::Permuted)
}
