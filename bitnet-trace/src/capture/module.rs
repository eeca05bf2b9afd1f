//! A module that is not the user's to annotate.

use std::borrow::Cow;
use std::ops::Deref;

use candle_core::{Module, Result, Tensor};

use super::functions::tap;

/// Wraps a module, is one itself, and records what its `forward` returns.
///
/// For layers of candle-nn and other crates, whose functions take no attribute:
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
    /// `stage` is the name of its records.
    pub fn new(stage: impl Into<Cow<'static, str>>, module: M) -> Self {
        Self { stage: stage.into(), module }
    }

    /// The module without its wrapper.
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

/// What else the module can do: its weights, its configuration.
impl<M> Deref for TracedModule<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.module
    }
}
