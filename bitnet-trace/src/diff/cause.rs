//! Causes that the numbers show. Each is claimed only where nothing else explains them.
#![allow(clippy::float_cmp)] // equal means equal here: what was rounded, moved or turned is exactly that

use super::metric::{Sums, to_bf16, to_f16};
use super::verdict::Cause;
use super::view::Elements;

/// What is left after a claimed cause is undone, over the error that it explains.
const EXPLAINED: f64 = 1e-3;

/// An explanation also has to leave no more than this, relative to the tensor.
const LEFT: f64 = 1e-4;

/// Fewer elements than this, or fewer different ones, are equal by chance too easily.
const ENOUGH: usize = 8;

/// Of this many elements, one in so many may differ by its sign.
const FEW: usize = 100;

/// The cause of a difference of which every element is known. `error` is its relative L2 norm.
pub(crate) fn of_values(reference: &Elements, trace: &Elements, error: f64) -> Option<Cause> {
    let (a, b) = (&reference.values, &trace.values);
    let finite = a.iter().chain(b).all(|value| value.is_finite());
    if b.iter().all(|value| *value == 0.0) {
        return a.iter().any(|value| *value != 0.0).then_some(Cause::AllZero);
    }
    if !finite {
        return None;
    }
    let mut sums = Sums::default();
    a.iter().zip(b).for_each(|(x, y)| sums.add((*x).into(), (*y).into()));
    if a.len() > 1
        && let Some(cause) = sums.ratio().and_then(|(ratio, left)| factor(ratio, left))
    {
        return Some(cause);
    }
    signs(a, b)
        .or_else(|| rounded(a, b))
        .or_else(|| shifted(reference, trace, error))
        .or_else(|| reordered(reference, trace, error))
}

/// A constant factor: what it leaves is nothing beside what it explains.
pub(crate) fn factor(ratio: f64, left: f64) -> Option<Cause> {
    let explains = (ratio - 1.0).abs();
    if left > LEFT || left > EXPLAINED * explains {
        return None;
    }
    Some(if (ratio + 1.0).abs() <= LEFT { Cause::SignFlipped } else { Cause::Ratio(ratio) })
}

fn signs(a: &[f32], b: &[f32]) -> Option<Cause> {
    let mut flipped = 0;
    for (x, y) in a.iter().zip(b) {
        if x == y {
            continue;
        }
        if *x != -*y {
            return None;
        }
        flipped += 1;
    }
    (flipped > 0 && flipped <= (a.len() / FEW).max(1)).then_some(Cause::SignsFlipped(flipped))
}

/// The trace is what rounding makes of the reference, which is not so itself.
fn rounded(a: &[f32], b: &[f32]) -> Option<Cause> {
    let is = |round: &dyn Fn(f32) -> f32| a.len() >= ENOUGH && a.iter().zip(b).all(|(x, y)| round(*x) == *y);
    // All that bf16 holds in 8 bits f16 holds too, within its range; the coarser is asked first.
    if is(&to_bf16) {
        return Some(Cause::RoundedTo("BF16"));
    }
    is(&to_f16).then_some(Cause::RoundedTo("F16"))
}

/// Rows of the dimension of tokens moved by one.
fn shifted(reference: &Elements, trace: &Elements, error: f64) -> Option<Cause> {
    let [.., tokens, channels] = reference.dims[..] else { return None };
    if tokens < 3 || tokens * channels < ENOUGH {
        return None;
    }
    let row = |elements: &Elements, outer: usize, token: usize, sums: &mut Sums, with: &Elements, other: usize| {
        let at = |token: usize| (outer * tokens + token) * channels;
        let (x, y) = (&elements.values[at(token)..][..channels], &with.values[at(other)..][..channels]);
        x.iter().zip(y).for_each(|(x, y)| sums.add((*x).into(), (*y).into()));
    };
    let outer = reference.values.len() / (tokens * channels);
    let explained = |by: i64| {
        let mut sums = Sums::default();
        for outer in 0..outer {
            for token in 1..tokens {
                let (from, to) = if by > 0 { (token - 1, token) } else { (token, token - 1) };
                row(reference, outer, from, &mut sums, trace, to);
            }
        }
        let left = sums.rel_l2();
        left <= LEFT && left <= EXPLAINED * error
    };
    [1, -1].into_iter().find(|by| explained(*by)).map(Cause::ShiftedByTokens)
}

fn reordered(reference: &Elements, trace: &Elements, error: f64) -> Option<Cause> {
    let (a, b) = (&reference.values, &trace.values);
    if a.len() < ENOUGH {
        return None;
    }
    let sorted = |values: &[f32]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f32::total_cmp);
        sorted
    };
    let near = |a: &[f32], b: &[f32]| {
        let mut sums = Sums::default();
        a.iter().zip(b).for_each(|(x, y)| sums.add((*x).into(), (*y).into()));
        let left = sums.rel_l2();
        left <= LEFT && left <= EXPLAINED * error
    };
    let (sorted_a, sorted_b) = (sorted(a), sorted(b));
    let different = 1 + sorted_a.windows(2).filter(|pair| pair[0] != pair[1]).count();
    if !near(&sorted_a, &sorted_b) || different < ENOUGH {
        return None;
    }
    let rank = reference.dims.len();
    for first in 0..rank {
        for second in first + 1..rank {
            if near(&transposed(a, &reference.dims, first, second), b) {
                return Some(Cause::Transposed(first, second));
            }
        }
    }
    // That each element has its like somewhere shows an order only where they are exactly alike.
    (sorted_a == sorted_b).then_some(Cause::Permuted)
}

/// The elements in the order that exchanging two dimensions gives.
fn transposed(values: &[f32], dims: &[usize], first: usize, second: usize) -> Vec<f32> {
    let mut strides = vec![1; dims.len()];
    for dim in (1..dims.len()).rev() {
        strides[dim - 1] = strides[dim] * dims[dim];
    }
    let (mut dims, mut strides) = (dims.to_vec(), strides);
    dims.swap(first, second);
    strides.swap(first, second);
    (0..values.len())
        .map(|index| {
            let places = super::metric::coordinates(index, &dims);
            values[places.iter().zip(&strides).map(|(place, stride)| place * stride).sum::<usize>()]
        })
        .collect()
}
