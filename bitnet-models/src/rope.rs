//! Rotary position embedding (arXiv 2104.09864). Element i is rotated together with element i + d/2
//! ("rotate half" in transformers, `NEOX` in llama.cpp).

use candle_core::Tensor;
use rayon::prelude::*;

use crate::config::Config;
use crate::error::Result;
use crate::tensors::{tensor, with_values};

/// Cosines and sines of the positions that one call computes.
#[derive(Debug)]
pub(crate) struct Rope {
    /// Position of the first token.
    pub(crate) position: usize,
    head_dim: usize,
    /// `[tokens, head_dim / 2]`
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// Computes them for `tokens` positions from `position` on.
    pub(crate) fn new(config: &Config, position: usize, tokens: usize) -> Self {
        let (half, head_dim) = (config.head_dim / 2, config.head_dim);
        let frequencies: Vec<f32> = (0..half).map(|i| frequency(i, head_dim, config.rope_theta)).collect();
        // Rounded once from f64: the closest that an f32 can be to any correct implementation.
        let table = |f: fn(f64) -> f64| {
            let angles = (position..position + tokens).flat_map(|position| {
                #[allow(clippy::cast_precision_loss)] // as in the reference
                frequencies.iter().map(move |frequency| position as f32 * frequency)
            });
            #[allow(clippy::cast_possible_truncation)]
            angles.map(|angle| f(f64::from(angle)) as f32).collect()
        };
        Self { position, head_dim, cos: table(f64::cos), sin: table(f64::sin) }
    }

    /// Splits `x` `[1, tokens, heads * head_dim]` into heads and rotates it: `[1, heads, tokens, head_dim]`.
    pub(crate) fn forward(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let (_, tokens, width) = x.dims3()?;
        let half = self.head_dim / 2;
        let turned = with_values(x, |x| {
            let mut turned = vec![0.0; x.len()];
            let rows = turned.par_chunks_exact_mut(self.head_dim).with_min_len(heads.max(64));
            rows.enumerate().for_each(|(row, turned)| {
                let (head, token) = (row / tokens, row % tokens);
                let (first, second) = x[token * width + head * self.head_dim..][..self.head_dim].split_at(half);
                let (cos, sin) = (&self.cos[token * half..][..half], &self.sin[token * half..][..half]);
                let (turned_first, turned_second) = turned.split_at_mut(half);
                for i in 0..half {
                    turned_first[i] = first[i] * cos[i] - second[i] * sin[i];
                    turned_second[i] = second[i] * cos[i] + first[i] * sin[i];
                }
            });
            turned
        })?;
        tensor(turned, (1, heads, tokens, self.head_dim))
    }
}

/// `1 / theta^(2i / d)`; rounded to f32, as in the reference.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
fn frequency(i: usize, head_dim: usize, theta: f64) -> f32 {
    theta.powf(-((2 * i) as f64) / head_dim as f64) as f32
}
