//! Statistics in one fixed order of operations, so that every processor and every language gives
//! the same bits: lanes of f64 inside a sub-block, folded by halves, sub-blocks added in order.

use super::constants::SUB_BLOCK;
use super::kernel::{Kernel, SubBlock};

/// Sums, extremes and counts of the elements seen so far.
#[derive(Debug, Clone)]
pub struct Statistics {
    count: usize,
    sum: f64,
    sum_of_squares: f64,
    min: f32,
    max: f32,
    /// Number of NaN elements.
    pub nan_count: usize,
    /// Number of infinite elements of either sign.
    pub inf_count: usize,
    /// Number of zeros of either sign.
    pub zero_count: usize,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            sum_of_squares: 0.0,
            min: f32::INFINITY,
            max: f32::NEG_INFINITY,
            nan_count: 0,
            inf_count: 0,
            zero_count: 0,
        }
    }
}

impl Statistics {
    /// Adds a sub-block; only the last one may be partial. Returns whether all its elements are finite.
    pub(super) fn add(&mut self, kernel: Kernel, sub_block: &[f32]) -> bool {
        debug_assert_eq!(self.count % SUB_BLOCK, 0, "only the last sub-block may be partial");
        self.count += sub_block.len();
        let mut found = kernel.statistics(sub_block);
        let finite = found.sum_of_squares.is_finite();
        if !finite {
            found = self.add_not_finite(kernel, sub_block);
        }
        self.sum += found.sum;
        self.sum_of_squares += found.sum_of_squares;
        self.min = self.min.min(found.min);
        self.max = self.max.max(found.max);
        self.zero_count += found.zeros;
        finite
    }

    /// Counts the elements that are not finite, and returns the statistics of the others.
    #[cold]
    fn add_not_finite(&mut self, kernel: Kernel, sub_block: &[f32]) -> SubBlock {
        let mut cleaned = [0.0; SUB_BLOCK];
        let (mut min, mut max) = (f32::INFINITY, f32::NEG_INFINITY);
        let mut others = 0;
        for (to, &from) in cleaned.iter_mut().zip(sub_block) {
            if from.is_finite() {
                *to = from;
                min = min.min(from);
                max = max.max(from);
            } else {
                self.nan_count += usize::from(from.is_nan());
                self.inf_count += usize::from(from.is_infinite());
                others += 1;
            }
        }
        let found = kernel.statistics(&cleaned[..sub_block.len()]);
        // The zeros that replaced elements must not count, and must not be extremes.
        SubBlock { min, max, zeros: found.zeros - others, ..found }
    }

    /// Root mean square: 0 for an empty tensor, NaN if any element is not finite.
    #[must_use]
    pub fn rms(&self) -> f64 {
        match (self.count, self.finite()) {
            (0, _) => 0.0,
            (count, finite) if finite == count => (self.sum_of_squares / as_f64(count)).sqrt(),
            _ => f64::NAN,
        }
    }

    /// Mean of the finite elements; `None` if there are none.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.finite() > 0).then(|| self.sum / as_f64(self.finite()))
    }

    /// Smallest finite element, a zero always as +0; `None` if there are none.
    #[must_use]
    pub fn min(&self) -> Option<f64> {
        (self.finite() > 0).then(|| f64::from(self.min) + 0.0)
    }

    /// Largest finite element, a zero always as +0; `None` if there are none.
    #[must_use]
    pub fn max(&self) -> Option<f64> {
        (self.finite() > 0).then(|| f64::from(self.max) + 0.0)
    }

    fn finite(&self) -> usize {
        self.count - self.nan_count - self.inf_count
    }
}

#[allow(clippy::cast_precision_loss)] // exact below 2^53 elements
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::Statistics;
    use crate::digest::Kernel;

    fn of(values: &[f32]) -> Statistics {
        let mut statistics = Statistics::default();
        statistics.add(Kernel::best(), values);
        statistics
    }

    #[test]
    fn elements_that_are_not_finite_are_counted_and_left_out() {
        let statistics = of(&[1.0, f32::NAN, -3.0, f32::INFINITY, -0.0, f32::NEG_INFINITY]);
        assert_eq!((statistics.nan_count, statistics.inf_count, statistics.zero_count), (1, 2, 1));
        assert_eq!((statistics.min(), statistics.max()), (Some(-3.0), Some(1.0)));
        assert!(statistics.rms().is_nan());
        assert_eq!(statistics.mean().map(f64::to_bits), Some((-2.0f64 / 3.0).to_bits()));
    }

    #[test]
    fn without_finite_elements_there_is_no_mean() {
        let statistics = of(&[f32::NAN]);
        assert_eq!((statistics.min(), statistics.max(), statistics.mean()), (None, None, None));
    }

    #[test]
    fn zero_extremes_are_positive() {
        for kernel in Kernel::available() {
            let mut statistics = Statistics::default();
            statistics.add(kernel, &[-0.0, -0.0]);
            assert_eq!(statistics.min().map(f64::to_bits), Some(0));
            assert_eq!(statistics.max().map(f64::to_bits), Some(0));
        }
    }
}
