//! The functions without the feature `trace`: they do nothing.

use std::borrow::Cow;
use std::ops::Deref;

use candle_core::backprop::GradStore;
use candle_core::{Module, Tensor};

use crate::annotation::{Annotation, AsTensor, Site, Traced};

/// Does nothing.
///
/// # Errors
///
/// None.
#[inline]
pub fn dump_trace(_name: &str, _tensor: &Tensor) -> candle_core::Result<()> {
    Ok(())
}

/// Does nothing.
///
/// # Errors
///
/// None.
#[inline]
pub fn dump_trace_with_context(
    _name: &str,
    _tensor: &Tensor,
    _seq_index: Option<usize>,
    _layer_idx: Option<usize>,
    _stage: Option<&str>,
) -> candle_core::Result<()> {
    Ok(())
}

/// Does nothing.
#[inline]
pub fn tap<T: Traced>(_stage: &str, _value: &T) {}

/// Does nothing.
#[inline]
pub fn annotate_run(_key: &str, _value: impl Into<Annotation>) {}

/// Does nothing.
#[inline]
pub fn flush() {}

/// Does nothing; the iterator is not touched.
#[inline]
pub fn record_weights<N: AsRef<str>, T: AsTensor>(_weights: impl IntoIterator<Item = (N, T)>) {}

/// Does nothing; the iterator is not touched.
#[inline]
pub fn record_gradients<N: AsRef<str>, T: AsTensor>(
    _gradients: &GradStore,
    _tensors: impl IntoIterator<Item = (N, T)>,
) {
}

/// Wraps a module and records nothing.
#[derive(Debug, Clone)]
pub struct TracedModule<M>(M);

impl<M> TracedModule<M> {
    /// Wraps a module; the stage is not kept.
    #[inline]
    pub fn new(_stage: impl Into<Cow<'static, str>>, module: M) -> Self {
        Self(module)
    }

    /// Returns the module without its wrapper.
    #[inline]
    pub fn into_inner(self) -> M {
        self.0
    }
}

impl<M: Module> Module for TracedModule<M> {
    #[inline]
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.0.forward(x)
    }
}

/// Gives access to the module's other methods and fields, such as its weights.
impl<M> Deref for TracedModule<M> {
    type Target = M;

    #[inline]
    fn deref(&self) -> &M {
        &self.0
    }
}

/// Returns an empty list: nothing is annotated.
#[inline]
#[must_use]
pub fn sites() -> Vec<&'static Site> {
    Vec::new()
}
