//! Statistics in one fixed order of operations, so that every processor and every language gives
//! the same bits: lanes of f64 inside a sub-block, folded by halves, sub-blocks added in order.

/// Elements whose lanes are folded together before the next ones begin.
pub(crate) const SUB_BLOCK: usize = 4096;

/// Element i of a sub-block is added to lane i mod 16.
const LANES: usize = 16;

/// Sums, extremes and counts of the elements seen so far.
#[derive(Debug, Clone)]
pub(crate) struct Statistics {
    count: usize,
    sum: f64,
    sum_of_squares: f64,
    min: f32,
    max: f32,
    pub(crate) nan_count: usize,
    pub(crate) inf_count: usize,
    pub(crate) zero_count: usize,
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
    /// Adds elements. All calls but the last must bring whole sub-blocks.
    pub(crate) fn update(&mut self, values: &[f32]) {
        debug_assert_eq!(self.count % SUB_BLOCK, 0, "only the last block may be partial");
        for sub_block in values.chunks(SUB_BLOCK) {
            self.add_sub_block(sub_block);
        }
        self.count += values.len();
    }

    fn add_sub_block(&mut self, values: &[f32]) {
        let mut sum = [0.0; LANES];
        let mut squares = [0.0; LANES];
        for row in values.chunks(LANES) {
            for (lane, &value) in row.iter().enumerate() {
                if value.is_finite() {
                    let wide = f64::from(value);
                    sum[lane] += wide;
                    squares[lane] += wide * wide;
                    self.min = self.min.min(value);
                    self.max = self.max.max(value);
                    self.zero_count += usize::from(value == 0.0);
                } else if value.is_nan() {
                    self.nan_count += 1;
                } else {
                    self.inf_count += 1;
                }
            }
        }
        self.sum += fold(sum);
        self.sum_of_squares += fold(squares);
    }

    /// Root of the mean square: 0 for an empty tensor, NaN if an element is not finite.
    pub(crate) fn rms(&self) -> f64 {
        match (self.count, self.finite()) {
            (0, _) => 0.0,
            (count, finite) if finite == count => (self.sum_of_squares / as_f64(count)).sqrt(),
            _ => f64::NAN,
        }
    }

    /// Mean of the finite elements.
    pub(crate) fn mean(&self) -> Option<f64> {
        (self.finite() > 0).then(|| self.sum / as_f64(self.finite()))
    }

    /// Smallest finite element; zero is always +0.
    pub(crate) fn min(&self) -> Option<f64> {
        (self.finite() > 0).then(|| f64::from(self.min) + 0.0)
    }

    /// Largest finite element; zero is always +0.
    pub(crate) fn max(&self) -> Option<f64> {
        (self.finite() > 0).then(|| f64::from(self.max) + 0.0)
    }

    fn finite(&self) -> usize {
        self.count - self.nan_count - self.inf_count
    }
}

/// Lane j takes lane j+8, then j+4, j+2, j+1.
fn fold(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[allow(clippy::cast_precision_loss)] // exact below 2^53 elements
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::Statistics;

    #[test]
    fn what_is_not_finite_is_counted_and_left_out() {
        let mut statistics = Statistics::default();
        statistics.update(&[1.0, f32::NAN, -3.0, f32::INFINITY, -0.0, f32::NEG_INFINITY]);
        assert_eq!((statistics.nan_count, statistics.inf_count, statistics.zero_count), (1, 2, 1));
        assert_eq!((statistics.min(), statistics.max()), (Some(-3.0), Some(1.0)));
        assert!(statistics.rms().is_nan());
        assert_eq!(statistics.mean().map(f64::to_bits), Some((-2.0f64 / 3.0).to_bits()));
    }

    #[test]
    fn nothing_finite_has_no_mean() {
        let mut statistics = Statistics::default();
        statistics.update(&[f32::NAN]);
        assert_eq!((statistics.min(), statistics.max(), statistics.mean()), (None, None, None));
    }

    #[test]
    fn zero_extremes_are_positive() {
        let mut statistics = Statistics::default();
        statistics.update(&[-0.0, -0.0]);
        assert_eq!(statistics.min().map(f64::to_bits), Some(0));
        assert_eq!(statistics.max().map(f64::to_bits), Some(0));
    }
}
