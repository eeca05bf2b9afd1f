//! The numbers of a difference without the elements: from the sketches, or from the statistics.
//!
//! That two tensors hold the same elements in another order is not claimed of their statistics: other
//! elements can have the same extremes, sum and sum of squares, and of integers they easily do.
#![allow(clippy::cast_precision_loss)] // counts

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::digest::dtype::Dtype;
use crate::record::TraceRecord;

use super::super::verdict::{Cause, Difference, Evidence};
use super::factor::Factor;
use super::sums::Sums;

/// Sums in a sketch.
const BUCKETS: usize = 64;

/// A factor is shown by at least so many of a sketch's sums on both sides, and of a tensor's elements.
const ENOUGH: usize = BUCKETS / 2;

/// Elements of one magnitude have an rms of it, if those that are zero are left out. Elements that
/// come nearer than this are too much alike to show anything.
const ALIKE: f64 = 0.99;

fn sketch(record: &TraceRecord) -> Option<[f64; BUCKETS]> {
    let bytes = STANDARD.decode(record.sketch.as_ref()?).ok()?;
    let (sums, []) = bytes.as_chunks::<4>() else { return None };
    let sums: Vec<f64> = sums.iter().map(|sum| f64::from(f32::from_le_bytes(*sum))).collect();
    let within = |sum: &f64| sum.abs() < f64::from(f32::MAX);
    sums.try_into().ok().filter(|sums: &[f64; BUCKETS]| sums.iter().all(within))
}

/// Whether a sum of the sketch may have left the range of f32: a bucket gets up to 64 elements of a
/// sub-block, and what is out of range is clamped.
fn saturates(record: &TraceRecord) -> bool {
    let largest = record.max.unwrap_or(0.0).abs().max(record.min.unwrap_or(0.0).abs());
    largest > f64::from(f32::MAX) / BUCKETS as f64
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

/// Many elements that are finite, not zero, and not all of one magnitude. What a few elements show,
/// as rows with a single one, or equal elements, any two of their kind show.
fn is_varied(record: &TraceRecord) -> bool {
    let Some(nonzero) = record.num_elements.checked_sub(record.zero_count) else { return false };
    let (Some(min), Some(max)) = (record.min, record.max) else { return false };
    let rms = record.rms * (record.num_elements as f64 / nonzero.max(1) as f64).sqrt();
    record.nan_count == 0 && record.inf_count == 0 && nonzero >= ENOUGH && rms < ALIKE * max.abs().max(min.abs())
}

/// The sketch is linear: that of a multiple is the multiple of every sum.
fn factor(reference: &TraceRecord, trace: &TraceRecord, sums: &Sums, [a, b]: [[f64; BUCKETS]; 2]) -> Option<Cause> {
    let nonzero = |sums: &[f64]| sums.iter().filter(|sum| **sum != 0.0).count();
    if nonzero(&a) < ENOUGH || nonzero(&b) < ENOUGH {
        return None;
    }
    let unit = |record: &TraceRecord| Dtype::of_record(&record.dtype).map_or(0.0, Dtype::unit_roundoff);
    let mut factor = Factor::new(sums, unit(reference).max(unit(trace)))?;
    a.iter().zip(b).all(|(x, y)| factor.add(*x, y)).then(|| factor.cause())?
}
