//! A model that knows nothing of tracing.
#![allow(clippy::explicit_iter_loop)] // as models are often written

use candle_core::{Result, Tensor};

pub trait Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor>;

    /// A default method.
    fn twice(&self, x: &Tensor) -> Result<Tensor> {
        let once = self.forward(x)?;
        self.forward(&once)
    }
}

pub struct Mlp {
    pub scale: f64,
}

impl Layer for Mlp {
    #[inline]
    // Two operations.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let up = (x * self.scale)?;
        up.relu()
    }
}

pub struct Block {
    pub mlp: Mlp,
}

impl Block {
    pub(crate) fn forward(&mut self, x: &Tensor) -> Result<Tensor> {
        let h = self.mlp.twice(x)?;
        x + h
    }
}

pub struct Model {
    pub layers: Vec<Block>,
}

impl Model {
    /// Returns the logits.
    #[cfg(not(any()))]
    pub fn forward(&mut self, x: &Tensor, index_pos: usize) -> Result<Tensor> {
        let (mut x, _) = helpers::shifted(x, index_pos)?;
        for layer in self.layers.iter_mut() {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }

    #[cfg(any())]
    pub fn forward(&mut self, x: &Tensor, _: usize) -> Result<Tensor> {
        x.abs()
    }
}

mod helpers {
    pub(super) fn shifted(x: &super::Tensor, by: usize) -> super::Result<(super::Tensor, usize)> {
        #[allow(clippy::cast_precision_loss)] // small numbers
        Ok(((x + by as f64)?, by))
    }
}
