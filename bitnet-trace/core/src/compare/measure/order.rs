//! The same elements in other places: shifted, transposed, permuted.

use std::hash::BuildHasher;
use std::ops::ControlFlow::{Break, Continue};

use foldhash::quality::FixedState;

use super::super::verdict::Cause;
use super::factor::LEFT;
use super::number::{Distinct, ENOUGH, Number};
use super::sums::Sums;
use super::view::{View, blocks_of_both};

/// What is left after a move is undone, over the error that it explains.
const EXPLAINED: f64 = 1e-3;

/// Norms that differ by more are not those of the same numbers.
const SAME_NORM: f64 = 1e-6;

/// A shift moves at least so many rows that differ from those that were there.
const MOVED: usize = 2;

/// Squares of what may be left of an error, for the move to explain it.
fn most_left(sums: &Sums) -> f64 {
    (LEFT * LEFT * sums.reference).min(EXPLAINED * EXPLAINED * sums.error)
}

/// Squares of the difference; `None` as soon as it is more than `most`.
fn left<T: Number>(views: [&View<'_>; 2], most: f64) -> Option<f64> {
    let mut left = 0.0;
    let contradicted = blocks_of_both(views, |_, a: &[T], b: &[T]| {
        for (x, y) in a.iter().zip(b) {
            let error = x.minus(*y);
            left += error * error;
        }
        if left > most { Break(()) } else { Continue(()) }
    });
    contradicted.is_none().then_some(left)
}

/// Whether a side has enough different elements to say anything.
fn tells<T: Number>(view: &View<'_>) -> bool {
    let mut distinct = Distinct::default();
    let enough = view.blocks(|_, elements: &[T]| {
        for element in elements {
            distinct.add(*element);
        }
        if distinct.is_enough() { Break(()) } else { Continue(()) }
    });
    enough.is_some()
}

/// Rows of the dimension of tokens moved by one. Without `tokens` it is known only where the tensor
/// has tokens and channels alone.
pub(super) fn shifted<T: Number>(views: [&View<'_>; 2], tokens: Option<usize>, sums: &Sums) -> Option<Cause> {
    let dim = tokens.or_else(|| (views[0].dims().len() == 2).then_some(0))?;
    let tokens = *views[0].dims().get(dim)?;
    let moved = tokens.checked_sub(1).filter(|moved| *moved >= MOVED)?;
    let explains = |from: usize, to: usize| {
        let (reference, trace) = (views[0].narrowed(dim, from, moved)?, views[1].narrowed(dim, to, moved)?);
        let left = left::<T>([&reference, &trace], most_left(sums))?;
        // What was there before the move has to differ, or nothing shows one.
        let unmoved = views[0].narrowed(dim, to, moved)?;
        let mut error = 0.0;
        let mut moved_elements = Distinct::default();
        blocks_of_both([&unmoved, &trace], |_, a: &[T], b: &[T]| {
            for (x, y) in a.iter().zip(b) {
                error += x.minus(*y).powi(2);
                if x != y {
                    moved_elements.add(*y);
                }
            }
            Continue::<()>(())
        });
        let changes = |token: &usize| {
            let rows = [views[0].narrowed(dim, *token, 1), views[1].narrowed(dim, *token, 1)];
            matches!(rows, [Some(reference), Some(trace)] if differ::<T>([&reference, &trace]))
        };
        let rows = (to..to + moved).filter(changes).take(MOVED).count();
        (left <= EXPLAINED * EXPLAINED * error && moved_elements.is_enough() && rows == MOVED).then_some(())
    };
    if explains(0, 1).is_some() {
        return Some(Cause::ShiftedByTokens(1));
    }
    explains(1, 0).map(|()| Cause::ShiftedByTokens(-1))
}

/// Whether an element differs.
fn differ<T: Number>(views: [&View<'_>; 2]) -> bool {
    blocks_of_both(views, |_, a: &[T], b: &[T]| if a == b { Continue(()) } else { Break(()) }).is_some()
}

/// Two dimensions exchanged, where only these two explain the difference.
pub(super) fn transposed<T: Number>(views: [&View<'_>; 2], sums: &Sums) -> Option<Cause> {
    let (norms, rank) = ([sums.reference.sqrt(), sums.trace.sqrt()], views[0].dims().len());
    if (norms[0] - norms[1]).abs() > LEFT * norms[0] {
        return None;
    }
    let mut found = None;
    for (first, second) in (0..rank).flat_map(|first| (first + 1..rank).map(move |second| (first, second))) {
        if left::<T>([&views[0].transposed(first, second), views[1]], most_left(sums)).is_some()
            && found.replace((first, second)).is_some()
        {
            return None;
        }
    }
    found.filter(|_| tells::<T>(views[0])).map(|(first, second)| Cause::Transposed(first, second))
}

/// Each element has its like somewhere: sums of hashes do not depend on the order.
pub(super) fn permuted<T: Number>(views: [&View<'_>; 2], sums: &Sums) -> Option<Cause> {
    if views[0].len() < ENOUGH || (sums.reference - sums.trace).abs() > SAME_NORM * sums.reference {
        return None;
    }
    // Each is a 64-bit hash; two sets that are not the same agree in both by chance in 1 of 2^128.
    let hashers = [FixedState::with_seed(1), FixedState::with_seed(2)];
    let mut found = [[0u64; 2]; 2];
    blocks_of_both(views, |_, a: &[T], b: &[T]| {
        for (sums, elements) in found.iter_mut().zip([a, b]) {
            for bits in elements.iter().map(|element| element.bits_of_value()) {
                for (sum, hasher) in sums.iter_mut().zip(&hashers) {
                    *sum = sum.wrapping_add(hasher.hash_one(bits));
                }
            }
        }
        Continue::<()>(())
    });
    (found[0] == found[1] && tells::<T>(views[0])).then_some(Cause::Permuted)
}
