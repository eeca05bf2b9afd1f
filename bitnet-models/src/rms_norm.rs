//! Root mean square norm.

use candle_core::Tensor;

use crate::error::Result;
use crate::kernels::float::sum_of_squares;
use crate::tensors::{map_rows, tensor, with_last, with_values};

/// `weight * x / sqrt(mean(x^2) + eps)` over the last dimension.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    pub(crate) fn new(weight: Vec<f32>, eps: f64) -> Self {
        #[allow(clippy::cast_possible_truncation)] // the reference adds it in f32
        Self { weight, eps: eps as f32 }
    }

    /// Takes `x` `[.., width]`; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let width = self.weight.len();
        let shape = with_last(x, width, width)?;
        let normed = with_values(x, |x| {
            let mut normed = vec![0.0; x.len()];
            map_rows(x, &mut normed, width, |x, normed| {
                #[allow(clippy::cast_precision_loss)] // a width
                let root = (sum_of_squares(x) / width as f32 + self.eps).sqrt();
                for (normed, (x, weight)) in normed.iter_mut().zip(x.iter().zip(&self.weight)) {
                    *normed = x / root * weight;
                }
            });
            normed
        })?;
        tensor(normed, shape)
    }
}
