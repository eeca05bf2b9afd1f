//! Computes the numbers of a difference from all elements, in one pass.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::float_cmp)] // counts; bit-equal elements are meant

use std::ops::ControlFlow;

use super::super::verdict::{Difference, Element, Evidence};
use super::number::Number;
use super::sums::{Shares, Sums};
use super::ulp;
use super::view::{View, blocks_of_both};
use crate::digest::float16::{to_bf16, to_f16};

/// Sums of squares of larger numbers overflow, and those of smaller numbers underflow.
const LARGE: f64 = 1e140;
const SMALL: f64 = 1e-140;

/// The result of one pass over both sides.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) difference: Difference,
    /// The number of elements that are not finite on one side, or differently on both.
    pub(crate) nonfinite: usize,
    /// The sums over the pairs of finite elements.
    pub(crate) sums: Sums,
    /// Whether the sums are those of scaled elements, because squares of the elements would overflow or underflow.
    pub(crate) scaled: bool,
}

/// Compares the sides element by element. Only elements that are finite on both sides count in the norms.
pub(crate) fn measure<T: Number>(views: [&View<'_>; 2], dtypes: [&str; 2]) -> Measured {
    let dims = views[0].dims();
    let precision = if dtypes[0] == dtypes[1] { views[0].dtype.precision() } else { None };
    let rounding = rounding(dtypes);
    let mut pass = Accumulator::<T>::new(dims);
    blocks_of_both(views, |start, a: &[T], b: &[T]| {
        for (index, (x, y)) in (start..).zip(a.iter().zip(b)) {
            pass.add(index, *x, *y);
            if let Some(precision) = precision
                && let Some(distance) = ulp::distance(x.value(), y.value(), precision)
                && x.is_finite()
                && y.is_finite()
            {
                pass.ulp = pass.ulp.max(Some(distance));
            }
        }
        if let Some((_, round)) = rounding
            && pass.vanishes
        {
            let same = |x: f64, y: f64| round(x) == round(y) || x.is_nan() && y.is_nan();
            pass.vanishes = a.iter().zip(b).all(|(x, y)| same(x.value(), y.value()));
        }
        ControlFlow::<()>::Continue(())
    });
    let scale = scale(pass.largest);
    if scale != 1.0 {
        pass.sums = scaled::<T>(views, scale);
        pass.sums.absolute /= scale;
    }
    let [tokens, channels] = pass.shares.worst();
    let count = views[0].len();
    // If no element is finite on both sides, the sums are empty and show nothing.
    let measured = pass.sums.count > 0 || pass.nonfinite == 0;
    let known = |number: f64| measured.then_some(number);
    let element = |(_, index, x, y): Worst<T>| Element {
        index: coordinates(index, dims),
        reference: x.value(),
        trace: y.value(),
    };
    let difference = Difference {
        evidence: Evidence::Values,
        rel_l2: known(pass.sums.rel_l2()),
        cosine: known(pass.sums.cosine()),
        max_abs: known(pass.worst.map_or(0.0, |(error, ..)| error)),
        worst: pass.worst.map(element),
        max_rel: pass.worst_relative.map(|(error, ..)| error),
        worst_relative: pass.worst_relative.map(element),
        mean_abs: known(pass.sums.absolute / pass.sums.count.max(1) as f64),
        max_ulp: pass.ulp,
        differing: Some(pass.differing),
        bit_equal: Some(if count == 0 { 1.0 } else { (count - pass.differing) as f64 / count as f64 }),
        rounding: rounding.filter(|_| pass.vanishes).map(|(dtype, _)| dtype),
        tokens,
        channels,
        rows: None,
    };
    Measured { difference, nonfinite: pass.nonfinite, sums: pass.sums, scaled: scale != 1.0 }
}

/// An error, the index of its element, and the element on both sides.
type Worst<T> = (f64, usize, T, T);

/// What is collected in the pass.
struct Accumulator<T> {
    sums: Sums,
    shares: Shares,
    nonfinite: usize,
    differing: usize,
    worst: Option<Worst<T>>,
    worst_relative: Option<Worst<T>>,
    /// The largest magnitude of a finite element.
    largest: f64,
    /// The largest distance in ULP.
    ulp: Option<u64>,
    /// Whether the sides are equal so far when both are rounded to the smaller type.
    vanishes: bool,
}

impl<T: Number> Accumulator<T> {
    fn new(dims: &[usize]) -> Self {
        Self {
            sums: Sums::default(),
            shares: Shares::new(dims),
            nonfinite: 0,
            differing: 0,
            worst: None,
            worst_relative: None,
            largest: 0.0,
            ulp: None,
            vanishes: true,
        }
    }

    fn add(&mut self, index: usize, x: T, y: T) {
        self.differing += usize::from(x.bits() != y.bits());
        let (a, b) = (x.value(), y.value());
        if !a.is_finite() || !b.is_finite() {
            self.nonfinite += usize::from(!(a.is_nan() && b.is_nan() || a == b));
            self.shares.add(None);
            return;
        }
        let error = x.minus(y);
        self.sums.add(a, b, error);
        self.shares.add(Some((a, error)));
        self.largest = self.largest.max(a.abs()).max(b.abs());
        let error = error.abs();
        if error > self.worst.map_or(0.0, |(worst, ..)| worst) {
            self.worst = Some((error, index, x, y));
        }
        if a != 0.0 && error > self.worst_relative.map_or(0.0, |(worst, ..)| worst) * a.abs() {
            self.worst_relative = Some((error / a.abs(), index, x, y));
        }
    }
}

/// A power of two that brings the largest magnitude near 1, if its square could overflow or underflow; else 1.
fn scale(largest: f64) -> f64 {
    if largest == 0.0 || (SMALL..=LARGE).contains(&largest) {
        return 1.0;
    }
    let exponent = (largest.to_bits() >> (f64::MANTISSA_DIGITS - 1)) as i32 + f64::MIN_EXP - 2;
    2f64.powi(-exponent)
}

fn scaled<T: Number>(views: [&View<'_>; 2], scale: f64) -> Sums {
    let mut sums = Sums::default();
    blocks_of_both(views, |_, a: &[T], b: &[T]| {
        for (x, y) in a.iter().zip(b).map(|(x, y)| (x.value() * scale, y.value() * scale)) {
            if x.is_finite() && y.is_finite() {
                sums.add(x, y, x - y);
            }
        }
        ControlFlow::<()>::Continue(())
    });
    sums
}

pub(crate) fn is_float(dtype: &str) -> bool {
    matches!(dtype, "F64" | "F32" | "F16" | "BF16") || dtype.starts_with("F8")
}

/// The type with the shorter mantissa; the type of the reference if both are equal.
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

/// The name of a type, and the function that rounds to it.
pub(super) type Rounding = (&'static str, fn(f64) -> f64);

/// The rounding to the smaller of two different types, if it is a 16-bit type.
fn rounding(dtypes: [&str; 2]) -> Option<Rounding> {
    if dtypes[0] == dtypes[1] {
        return None;
    }
    match smaller(dtypes) {
        "F16" => Some(("F16", to_f16)),
        "BF16" => Some(("BF16", to_bf16)),
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation)] // it is meant to round
pub(crate) fn to_f32(value: f64) -> f64 {
    f64::from(value as f32)
}

/// The index in each dimension, slowest first.
fn coordinates(mut index: usize, dims: &[usize]) -> Vec<usize> {
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
