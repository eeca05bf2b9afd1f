//! The numbers of a difference, from every element.
#![allow(clippy::cast_precision_loss, clippy::float_cmp)] // counts; equal means equal

use half::{bf16, f16};

use crate::record::TraceRecord;

use super::verdict::{Difference, Element, Evidence, Share};
use super::view::Elements;

/// How many of the worst tokens and channels are named.
const NAMED: usize = 3;

/// Compares element by element. Elements that are not finite on both sides alike are left out of the
/// norms; the second value counts those that are not finite on one side, or differently.
pub(crate) fn measure(reference: &Elements, trace: &Elements, dtypes: [&str; 2]) -> (Difference, usize) {
    let (a, b) = (&reference.values, &trace.values);
    let mut sums = Sums::default();
    let mut nonfinite = 0;
    let mut worst: Option<(f64, usize)> = None;
    let mut worst_relative: Option<(f64, usize)> = None;
    let mut differing = 0;
    let mut ulp = 0;
    for (index, (x, y)) in a.iter().zip(b).enumerate() {
        if !x.is_finite() || !y.is_finite() {
            nonfinite += usize::from(!(x.is_nan() && y.is_nan() || x == y));
            continue;
        }
        differing += usize::from(x.to_bits() != y.to_bits());
        let (x, y) = (f64::from(*x), f64::from(*y));
        let error = (x - y).abs();
        sums.add(x, y);
        if error > worst.map_or(0.0, |(worst, _)| worst) {
            worst = Some((error, index));
        }
        if x != 0.0 && error / x.abs() > worst_relative.map_or(0.0, |(worst, _)| worst) {
            worst_relative = Some((error / x.abs(), index));
        }
        ulp = ulp.max(distance(x, y, dtypes[0]));
    }
    let count = a.len().saturating_sub(nonfinite).max(1);
    let element = |index: usize| Element {
        index: coordinates(index, &reference.dims),
        reference: f64::from(a[index]),
        trace: f64::from(b[index]),
    };
    let (tokens, channels) = shares(reference, trace);
    let difference = Difference {
        evidence: Evidence::Values,
        rel_l2: Some(sums.rel_l2()),
        cosine: Some(sums.cosine()),
        max_abs: Some(worst.map_or(0.0, |(error, _)| error)),
        worst: worst.map(|(_, index)| element(index)),
        max_rel: worst_relative.map(|(error, _)| error),
        worst_relative: worst_relative.map(|(_, index)| element(index)),
        mean_abs: Some(sums.absolute / count as f64),
        max_ulp: (dtypes[0] == dtypes[1] && is_float(dtypes[0])).then_some(ulp),
        differing: Some(differing),
        rounding: vanishes(a, b, dtypes),
        tokens,
        channels,
        rows: None,
    };
    (difference, nonfinite)
}

/// Sums over pairs of elements.
#[derive(Default, Clone, Copy)]
pub(crate) struct Sums {
    error: f64,
    reference: f64,
    trace: f64,
    product: f64,
    absolute: f64,
}

impl Sums {
    pub(crate) fn add(&mut self, x: f64, y: f64) {
        self.error += (x - y) * (x - y);
        self.reference += x * x;
        self.trace += y * y;
        self.product += x * y;
        self.absolute += (x - y).abs();
    }

    /// |a - b| / |a|; 0 for two zeros, infinite where only the reference is zero.
    pub(crate) fn rel_l2(&self) -> f64 {
        if self.error == 0.0 { 0.0 } else { (self.error / self.reference).sqrt() }
    }

    /// 1 for two zeros, 0 where one is zero.
    pub(crate) fn cosine(&self) -> f64 {
        if self.reference == 0.0 && self.trace == 0.0 {
            return 1.0;
        }
        let norms = (self.reference * self.trace).sqrt();
        if norms == 0.0 { 0.0 } else { (self.product / norms).clamp(-1.0, 1.0) }
    }

    /// The factor r for which r times the reference is nearest to the trace, and what then is left
    /// of the trace, relative to it.
    pub(crate) fn ratio(&self) -> Option<(f64, f64)> {
        if self.reference == 0.0 || self.trace == 0.0 {
            return None;
        }
        let ratio = self.product / self.reference;
        let left = (self.trace - ratio * self.product).max(0.0) / self.trace;
        Some((ratio, left.sqrt()))
    }
}

pub(crate) fn is_float(dtype: &str) -> bool {
    matches!(dtype, "F64" | "F32" | "F16" | "BF16") || dtype.starts_with("F8")
}

/// The type with fewer digits; the reference's where both are alike.
pub(crate) fn smaller(dtypes: [&str; 2]) -> &str {
    let digits = |dtype: &str| match dtype {
        "F64" => 52,
        "F32" => 23,
        "F16" => 10,
        "BF16" => 7,
        dtype if dtype.starts_with("F8") => 3,
        _ => 64,
    };
    if digits(dtypes[1]) < digits(dtypes[0]) { dtypes[1] } else { dtypes[0] }
}

/// The type of fewer digits in which an `F32` record was computed, as far as its extremes tell.
pub(crate) fn computed_in(record: &TraceRecord) -> Option<&'static str> {
    let extremes = [record.min?, record.max?];
    #[allow(clippy::cast_possible_truncation)] // extremes of f32 elements
    let all = |round: &dyn Fn(f32) -> f32| extremes.iter().all(|value| f64::from(round(*value as f32)) == *value);
    if record.dtype != "F32" || extremes[0] == extremes[1] {
        return None;
    }
    if all(&to_bf16) { Some("BF16") } else { all(&to_f16).then_some("F16") }
}

/// Steps between two numbers of a type; 0 for types that have none.
fn distance(x: f64, y: f64, dtype: &str) -> u64 {
    // As integers in the order of the numbers.
    #[allow(clippy::cast_possible_truncation)] // the elements are of that type, or f32 of a wider one
    let ordered = |value: f64| -> i64 {
        let (bits, sign) = match dtype {
            "F16" => (i64::from(f16::from_f64(value).to_bits()), 1 << 15),
            "BF16" => (i64::from(bf16::from_f64(value).to_bits()), 1 << 15),
            _ => (i64::from((value as f32).to_bits()), 1 << 31),
        };
        if bits & sign != 0 { -(bits & !sign) } else { bits }
    };
    if is_float(dtype) { ordered(x).abs_diff(ordered(y)) } else { 0 }
}

/// The smaller of two types, if the sides are equal when both are rounded to it.
fn vanishes(a: &[f32], b: &[f32], dtypes: [&str; 2]) -> Option<&'static str> {
    let same =
        |round: &dyn Fn(f32) -> f32| a.iter().zip(b).all(|(x, y)| round(*x) == round(*y) || x.is_nan() && y.is_nan());
    if dtypes[0] == dtypes[1] {
        return None;
    }
    match smaller(dtypes) {
        "F16" => same(&to_f16).then_some("F16"),
        "BF16" => same(&to_bf16).then_some("BF16"),
        _ => None,
    }
}

pub(crate) fn to_f16(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

pub(crate) fn to_bf16(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

/// Places along every dimension, slowest first.
pub(crate) fn coordinates(mut index: usize, dims: &[usize]) -> Vec<usize> {
    let mut places: Vec<usize> = dims
        .iter()
        .rev()
        .map(|dim| {
            let place = index % dim.max(&1);
            index /= dim.max(&1);
            place
        })
        .collect();
    places.reverse();
    places
}

/// The worst indices of the last dimension but one (tokens) and of the last (channels).
fn shares(reference: &Elements, trace: &Elements) -> (Vec<Share>, Vec<Share>) {
    let [.., tokens, channels] = reference.dims[..] else { return (Vec::new(), Vec::new()) };
    let mut by_token = vec![Sums::default(); tokens];
    let mut by_channel = vec![Sums::default(); channels];
    for (index, (x, y)) in reference.values.iter().zip(&trace.values).enumerate() {
        if x.is_finite() && y.is_finite() {
            by_token[index / channels % tokens].add((*x).into(), (*y).into());
            by_channel[index % channels].add((*x).into(), (*y).into());
        }
    }
    (worst(&by_token), worst(&by_channel))
}

fn worst(sums: &[Sums]) -> Vec<Share> {
    let mut shares: Vec<Share> =
        sums.iter().enumerate().map(|(index, sums)| Share { index, rel_l2: sums.rel_l2() }).collect();
    shares.retain(|share| share.rel_l2 > 0.0);
    shares.sort_by(|a, b| b.rel_l2.total_cmp(&a.rel_l2));
    shares.truncate(NAMED);
    shares
}
