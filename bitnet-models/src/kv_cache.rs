//! The keys and values of the positions that were computed so far.

use candle_core::Tensor;

use crate::config::Config;
use crate::error::Result;

/// The state of a sequence between calls: the keys and values of every block.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<Layer>,
    pub(crate) positions: usize,
    pub(crate) steps: usize,
}

/// One block's keys and values, `[batch, key-value heads, positions, head_dim]`; `None` at first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layer(Option<(Tensor, Tensor)>);

impl KvCache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { layers: vec![Layer::default(); config.num_hidden_layers], positions: 0, steps: 0 }
    }

    /// How many positions have been computed, which is the position of the next token.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// How many calls have been made: 0 before prefill, then the number of the decode step.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    pub(crate) fn layers_mut(&mut self) -> &mut [Layer] {
        &mut self.layers
    }
}

impl Layer {
    /// Adds the keys and values of new positions and returns those of all positions.
    pub(crate) fn append(&mut self, key: &Tensor, value: &Tensor) -> Result<(Tensor, Tensor)> {
        const POSITIONS: usize = 2;
        let all = match &self.0 {
            None => (key.contiguous()?, value.contiguous()?),
            Some((keys, values)) => (Tensor::cat(&[keys, key], POSITIONS)?, Tensor::cat(&[values, value], POSITIONS)?),
        };
        self.0 = Some(all.clone());
        Ok(all)
    }
}
