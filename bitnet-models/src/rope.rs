//! Rotary position embedding (arXiv 2104.09864). Element i is rotated together with element i + d/2
//! ("rotate half" in transformers, `NEOX` in llama.cpp).

use candle_core::{D, Device, Tensor};

use crate::config::Config;
use crate::error::Result;

/// Cosines and sines of the positions that one call computes.
#[derive(Debug)]
pub(crate) struct Rope {
    /// Position of the first token.
    pub(crate) position: usize,
    /// `[tokens, head_dim / 2]`
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Computes them for `tokens` positions from `position` on.
    pub(crate) fn new(config: &Config, position: usize, tokens: usize) -> Result<Self> {
        let half = config.head_dim / 2;
        let angles: Vec<f32> = (position..position + tokens)
            .flat_map(|position| (0..half).map(move |i| angle(position, i, config.head_dim, config.rope_theta)))
            .collect();
        // Rounded once from f64: the closest that an f32 can be to any correct implementation.
        let table = |f: fn(f64) -> f64| {
            #[allow(clippy::cast_possible_truncation)]
            let values: Vec<f32> = angles.iter().map(|angle| f(f64::from(*angle)) as f32).collect();
            Tensor::from_vec(values, (tokens, half), &Device::Cpu)
        };
        Ok(Self { position, cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Rotates `x` `[batch, heads, tokens, head_dim]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let head_dim = x.dim(D::Minus1)?;
        let first = x.narrow(D::Minus1, 0, head_dim / 2)?;
        let second = x.narrow(D::Minus1, head_dim / 2, head_dim / 2)?;
        let turned_first = (first.broadcast_mul(&self.cos)? - second.broadcast_mul(&self.sin)?)?;
        let turned_second = (second.broadcast_mul(&self.cos)? + first.broadcast_mul(&self.sin)?)?;
        Ok(Tensor::cat(&[turned_first, turned_second], D::Minus1)?)
    }
}

/// `position / theta^(2i / d)`; frequency and product rounded to f32, as in the reference.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn angle(position: usize, i: usize, head_dim: usize, theta: f64) -> f32 {
    let frequency = theta.powf(-((2 * i) as f64) / head_dim as f64) as f32;
    position as f32 * frequency
}
