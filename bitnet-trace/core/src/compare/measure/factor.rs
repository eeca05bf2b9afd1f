//! A constant factor: the trace is the reference times a number, element by element.
#![allow(clippy::cast_precision_loss)] // counts

use std::ops::ControlFlow::{Break, Continue};

use super::super::verdict::Cause;
use super::number::{Distinct, Number};
use super::sums::Sums;
use super::view::{View, blocks_of_both};

/// What is left after a factor is undone, over the difference that it explains: of the whole tensor,
/// and of an element that shows the factor.
const EXPLAINED: f64 = 1e-3;
const EACH: f64 = 1e-2;

/// A factor also has to leave no more than this, relative to the tensor, or than its type rounds.
pub(super) const LEFT: f64 = 1e-4;

/// What may be left of an element by the roundings of the sums it was computed with: so many units
/// roundoff of f32, relative to the rms.
const ROUNDINGS: f64 = 32.0;

/// A factor that is nearer to 1 than so many units roundoff of the sides' type may be rounding.
const UNITS: f64 = 16.0;

/// Beyond this the sums show that there is no factor, their own rounding included.
const HOPELESS: f64 = 1e-1;

/// Unit roundoff of f32.
const SINGLE: f64 = 1.0 / (1u64 << 24) as f64;

/// A factor that is to be shown, element by element.
pub(super) struct Factor {
    ratio: f64,
    /// What an element may have left that does not show the factor.
    floor: f64,
    /// Unit roundoff of the sides' type.
    unit: f64,
    /// Squares of what is left, and of the trace.
    left: f64,
    trace: f64,
    /// Elements that show the factor, those that are not zero, and those of the first that differ.
    shown: usize,
    nonzero: usize,
    distinct: Distinct,
}

impl Factor {
    /// `None` where the sums show that there is none. `unit` is the unit roundoff of the coarser type.
    pub(super) fn new(sums: &Sums, unit: f64) -> Option<Self> {
        let ratio = sums.ratio()?;
        let possible = (ratio - 1.0).abs() > UNITS * unit.max(SINGLE) && sums.left() <= HOPELESS;
        possible.then(|| Self {
            ratio,
            floor: ROUNDINGS * SINGLE * (sums.trace / sums.count.max(1) as f64).sqrt(),
            unit,
            left: 0.0,
            trace: 0.0,
            shown: 0,
            nonzero: 0,
            distinct: Distinct::default(),
        })
    }

    /// False where the elements contradict the factor.
    pub(super) fn add(&mut self, x: f64, y: f64) -> bool {
        let (expected, explained) = (self.ratio * x, (self.ratio - 1.0) * x);
        let left = (y - expected).abs();
        self.left += left * left;
        self.trace += y * y;
        self.nonzero += usize::from(x != 0.0 || y != 0.0);
        if x != 0.0 && left <= EACH * explained.abs().min(expected.abs()) {
            self.shown += 1;
            self.distinct.add(x);
            return true;
        }
        left <= self.floor
    }

    /// The cause, after every element was added without contradiction.
    pub(super) fn cause(&self) -> Option<Cause> {
        let left = (self.left / self.trace).sqrt();
        let explained = left <= LEFT.max(self.unit) && left <= EXPLAINED * (self.ratio - 1.0).abs();
        if !explained || 2 * self.shown < self.nonzero || !self.distinct.is_enough() {
            return None;
        }
        Some(if (self.ratio + 1.0).abs() <= LEFT { Cause::SignFlipped } else { Cause::Ratio(self.ratio) })
    }
}

pub(super) fn of_values<T: Number>(views: [&View<'_>; 2], sums: &Sums) -> Option<Cause> {
    let unit = views[0].dtype.unit_roundoff().max(views[1].dtype.unit_roundoff());
    let mut factor = Factor::new(sums, unit)?;
    let contradicted = blocks_of_both(views, |_, a: &[T], b: &[T]| {
        let fits = a.iter().zip(b).all(|(x, y)| factor.add(x.value(), y.value()));
        if fits { Continue(()) } else { Break(()) }
    });
    if contradicted.is_some() { None } else { factor.cause() }
}
