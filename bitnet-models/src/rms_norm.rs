//! Root mean square norm.

use candle_core::{D, Tensor};

use crate::error::Result;

/// `weight * x / sqrt(mean(x^2) + eps)` over the last dimension.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    /// `[width]`
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub(crate) fn new(weight: Tensor, eps: f64) -> Self {
        Self { weight, eps }
    }

    /// Takes `x` `[.., width]`; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mean_square = x.sqr()?.mean_keepdim(D::Minus1)?;
        let normed = x.broadcast_div(&(mean_square + self.eps)?.sqrt()?)?;
        Ok(normed.broadcast_mul(&self.weight)?)
    }
}
