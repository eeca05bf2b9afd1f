//! Finds the cause of a difference. A cause is named only if nothing else explains the numbers.
//!
//! Each cause is tested in one pass that ends at the first block that contradicts it, so that a difference without a
//! cause costs little.
#![allow(clippy::float_cmp)] // elements that were rounded, moved or negated are exactly equal

use std::ops::ControlFlow::{self, Break, Continue};

use super::super::verdict::Cause;
use super::factor;
use super::metric::{Measured, Rounding, to_f32};
use super::number::{Distinct, Number};
use super::order;
use super::view::{View, blocks_of_both};
use crate::digest::dtype::Dtype;
use crate::digest::float16::{to_bf16, to_f16};

/// At most one in this many elements may differ by its sign.
const FEW: usize = 100;

/// The cause of a difference whose elements are all known. `tokens` is the dimension of the views that holds the
/// tokens.
pub(crate) fn of_values<T: Number>(views: [&View<'_>; 2], measured: &Measured, tokens: Option<usize>) -> Option<Cause> {
    let only_zeros = |view: &View<'_>| {
        let other = |_, elements: &[T]| {
            if elements.iter().all(|element| element.value() == 0.0) { Continue(()) } else { Break(()) }
        };
        view.blocks(other).is_none()
    };
    if only_zeros(views[1]) {
        return (!only_zeros(views[0])).then_some(Cause::AllZero);
    }
    if measured.scaled || measured.sums.count < views[0].len() {
        return None;
    }
    factor::of_values::<T>(views, &measured.sums)
        .or_else(|| signs::<T>(views))
        .or_else(|| rounded::<T>(views))
        .or_else(|| order::shifted::<T>(views, tokens, &measured.sums))
        .or_else(|| order::transposed::<T>(views, &measured.sums))
        .or_else(|| order::permuted::<T>(views, &measured.sums))
}

/// A few elements have the opposite sign, and all others are equal.
fn signs<T: Number>(views: [&View<'_>; 2]) -> Option<Cause> {
    let most = views[0].len() / FEW;
    let mut flipped = 0;
    let mut equal = Distinct::default();
    let contradicted = blocks_of_both(views, |_, a: &[T], b: &[T]| {
        for (x, y) in a.iter().zip(b) {
            if x == y {
                equal.add(*x);
            } else if x.negated() == Some(*y) {
                flipped += 1;
            } else {
                return Break(());
            }
        }
        if flipped > most.max(1) { Break(()) } else { Continue(()) }
    });
    (contradicted.is_none() && flipped > 0 && equal.is_enough()).then_some(Cause::SignsFlipped(flipped))
}

/// The trace is the reference rounded to a smaller type, and the reference is not rounded.
fn rounded<T: Number>(views: [&View<'_>; 2]) -> Option<Cause> {
    let is = |round: fn(f64) -> f64| {
        let mut changed = Distinct::default();
        let contradicted = blocks_of_both(views, |_, a: &[T], b: &[T]| {
            for (x, y) in a.iter().zip(b).map(|(x, y)| (x.value(), y.value())) {
                if round(x) != y {
                    return Break(());
                }
                if x != y {
                    changed.add(x);
                }
            }
            ControlFlow::Continue(())
        });
        contradicted.is_none() && changed.is_enough()
    };
    views[0].dtype.precision()?;
    // f16 represents every bf16 number within its range, so the smaller type is tested first.
    let wide = views[0].dtype == Dtype::F64;
    let types: [Rounding; 3] = [("BF16", to_bf16), ("F16", to_f16), ("F32", to_f32)];
    types
        .into_iter()
        .take(if wide { 3 } else { 2 })
        .find(|(_, round)| is(*round))
        .map(|(dtype, _)| Cause::RoundedTo(dtype))
}
