//! Estimates the numbers of a difference without the elements: from the sketches, or from the statistics.
//!
//! Equal statistics are not taken to mean the same elements in another order: other elements can have the same minimum,
//! maximum, sum and sum of squares, and integers easily do.
#![allow(clippy::cast_precision_loss)] // counts

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::digest::dtype::Dtype;
use crate::record::TraceRecord;

use super::super::verdict::{Cause, Difference, Evidence};
use super::factor::Factor;
use super::sums::Sums;

/// The number of sums in a sketch.
const BUCKETS: usize = 64;

/// A factor has to be shown by at least this many sums of both sketches, and by tensors of at least this many elements.
const ENOUGH: usize = BUCKETS / 2;

/// If the rms of the nonzero elements is at least this share of the largest magnitude, the magnitudes are too alike to
/// show anything.
const ALIKE: f64 = 0.99;

fn sketch(record: &TraceRecord) -> Option<[f64; BUCKETS]> {
    let bytes = STANDARD.decode(record.sketch.as_ref()?).ok()?;
    let (sums, []) = bytes.as_chunks::<4>() else { return None };
    let sums: Vec<f64> = sums.iter().map(|sum| f64::from(f32::from_le_bytes(*sum))).collect();
    let within = |sum: &f64| sum.abs() < f64::from(f32::MAX);
    sums.try_into().ok().filter(|sums: &[f64; BUCKETS]| sums.iter().all(within))
}

/// Whether a sum of the sketch may have been clamped to the range of f32: a bucket adds up to 64 elements of a
/// sub-block.
fn saturates(record: &TraceRecord) -> bool {
    let largest = record.max.unwrap_or(0.0).abs().max(record.min.unwrap_or(0.0).abs());
    largest > f64::from(f32::MAX) / BUCKETS as f64
}

/// Estimates the relative L2 error as |sketch(a) - sketch(b)| / |a|, where |a| is rms sqrt(n). If an element is not
/// finite, |a| is the norm of the sketch.
pub(crate) fn measure(reference: &TraceRecord, trace: &TraceRecord) -> (Difference, Option<Cause>) {
    let statistics = Difference::unknown(Evidence::Statistics);
    if trace.num_elements > 0 && trace.zero_count == trace.num_elements && reference.zero_count < reference.num_elements
    {
        let difference = Difference { rel_l2: Some(1.0), cosine: Some(0.0), ..statistics };
        return (difference, Some(Cause::AllZero));
    }
    let holds = |record: &TraceRecord| !saturates(record);
    let Some((a, b)) = sketch(reference).zip(sketch(trace)).filter(|_| holds(reference) && holds(trace)) else {
        return (statistics, None);
    };
    let mut sums = Sums::default();
    a.iter().zip(b).for_each(|(x, y)| sums.add(*x, y, x - y));
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
    let tells = [reference, trace].into_iter().all(is_varied);
    let cause = if tells { factor(reference, trace, &sums, [a, b]) } else { None };
    (difference, cause)
}

/// Whether a tensor has many elements that are finite, not zero and of different magnitudes. A factor between tensors
/// with few or equal elements shows nothing: any two such tensors have one.
fn is_varied(record: &TraceRecord) -> bool {
    let Some(nonzero) = record.num_elements.checked_sub(record.zero_count) else { return false };
    let (Some(min), Some(max)) = (record.min, record.max) else { return false };
    let rms = record.rms * (record.num_elements as f64 / nonzero.max(1) as f64).sqrt();
    record.nan_count == 0 && record.inf_count == 0 && nonzero >= ENOUGH && rms < ALIKE * max.abs().max(min.abs())
}

/// The factor between the two sketches. The sketch is linear, so a factor of the tensor is a factor of every sum.
fn factor(reference: &TraceRecord, trace: &TraceRecord, sums: &Sums, [a, b]: [[f64; BUCKETS]; 2]) -> Option<Cause> {
    let nonzero = |sums: &[f64]| sums.iter().filter(|sum| **sum != 0.0).count();
    if nonzero(&a) < ENOUGH || nonzero(&b) < ENOUGH {
        return None;
    }
    let unit = |record: &TraceRecord| Dtype::of_record(&record.dtype).map_or(0.0, Dtype::unit_roundoff);
    let mut factor = Factor::new(sums, unit(reference).max(unit(trace)))?;
    a.iter().zip(b).all(|(x, y)| factor.add(*x, y)).then(|| factor.cause())?
}
