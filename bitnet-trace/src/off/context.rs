//! The context without the feature `trace`: it is never kept.

use std::marker::PhantomData;
use std::ops::Range;

/// What a record says about where it was made. Without the feature `trace` it is never kept.
#[derive(Debug, Clone, Default)]
#[must_use = "a context does nothing until it is entered"]
#[non_exhaustive]
pub struct TraceContext {
    /// 0 for prefill, 1, 2, ... for the decode steps after it.
    pub seq: Option<usize>,
    /// Index of the transformer block.
    pub layer: Option<usize>,
    /// Tells prompts apart.
    pub request: Option<u64>,
    /// The positions that the call computes.
    pub tokens: Option<Range<usize>>,
}

impl TraceContext {
    /// A context that sets the sequence index.
    #[inline]
    pub fn seq(seq: usize) -> Self {
        Self::default().with_seq(seq)
    }

    /// A context that sets the layer.
    #[inline]
    pub fn layer(layer: usize) -> Self {
        Self::default().with_layer(layer)
    }

    /// A context that sets the request.
    #[inline]
    pub fn request(request: u64) -> Self {
        Self::default().with_request(request)
    }

    /// A context that sets the token positions.
    #[inline]
    pub fn tokens(tokens: Range<usize>) -> Self {
        Self::default().with_tokens(tokens)
    }

    /// Sets the sequence index as well.
    #[inline]
    pub fn with_seq(self, seq: usize) -> Self {
        Self { seq: Some(seq), ..self }
    }

    /// Sets the layer as well.
    #[inline]
    pub fn with_layer(self, layer: usize) -> Self {
        Self { layer: Some(layer), ..self }
    }

    /// Sets the request as well.
    #[inline]
    pub fn with_request(self, request: u64) -> Self {
        Self { request: Some(request), ..self }
    }

    /// Sets the token positions as well.
    #[inline]
    pub fn with_tokens(self, tokens: Range<usize>) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// An empty context.
    #[inline]
    pub fn current() -> Self {
        Self::default()
    }

    /// Does nothing.
    #[inline]
    pub fn enter(self) -> ContextGuard {
        ContextGuard(PhantomData)
    }

    /// Returns the future unchanged.
    #[inline]
    pub fn instrument<F: Future>(&self, future: F) -> Instrumented<F> {
        future
    }

    /// Calls `f`.
    #[inline]
    pub fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }
}

/// A future that was given a context: without the feature `trace` the future itself.
pub type Instrumented<F> = F;

/// Ends a scope when dropped.
#[must_use = "the context ends when the guard is dropped; bind it, as in `let _layer = ...`"]
#[derive(Debug)]
pub struct ContextGuard(PhantomData<*const ()>);

// With this, code that drops a guard by hand compiles without a lint in both states.
impl Drop for ContextGuard {
    #[inline]
    fn drop(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::{Instrumented, TraceContext};

    /// Stands for a task type of a program that is built in both states.
    struct Task<F> {
        future: Instrumented<F>,
    }

    #[test]
    fn an_instrumented_future_has_a_name_in_both_states() {
        let task = Task { future: TraceContext::layer(1).instrument(std::future::ready(3)) };
        assert_eq!(task.future.into_inner(), 3);
    }
}
