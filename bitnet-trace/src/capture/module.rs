//! A wrapper for modules that the user cannot annotate.

use std::borrow::Cow;
use std::ops::Deref;

use candle_core::{Module, Result, Tensor};

use super::functions::tap;

/// Wraps a module and records what its `forward` returns. The wrapper is a module itself.
///
/// Use it for layers of candle-nn and other crates, whose functions cannot be annotated:
///
/// ```
/// use bitnet_trace::TracedModule;
/// use candle_core::{Device, Module, Result, Tensor};
///
/// struct Attention<M> {
///     q_proj: TracedModule<M>,
/// }
///
/// # fn main() -> Result<()> {
/// let attention = Attention { q_proj: TracedModule::new("q_proj", |x: &Tensor| x * 2.0) };
/// let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let q = attention.q_proj.forward(&x)?; // recorded as q_proj
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TracedModule<M> {
    stage: Cow<'static, str>,
    module: M,
}

impl<M> TracedModule<M> {
    /// Wraps a module; `stage` is the stage of its records.
    pub fn new(stage: impl Into<Cow<'static, str>>, module: M) -> Self {
        Self { stage: stage.into(), module }
    }

    /// Returns the module without its wrapper.
    pub fn into_inner(self) -> M {
        self.module
    }
}

impl<M: Module> Module for TracedModule<M> {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.module.forward(x);
        tap(&self.stage, &y);
        y
    }
}

/// Gives access to the module's other methods and fields, such as its weights.
impl<M> Deref for TracedModule<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.module
    }
}
