//! What `#[traced(layers(layer))]` makes of a loop: an iterator that opens a layer's scope before each pass.

use bitnet_trace_core::TraceContext;
use bitnet_trace_core::session::may_record;

use super::future::polled;

/// The passes of a loop. Each is a layer: 0, 1, 2, and so on.
///
/// A scope lasts until the next pass begins or the loop is left, be it by `break`, `?`, `return` or a panic. It is not
/// a guard that the body holds, so that a loop in a future that moves between threads compiles. The annotated future, or
/// the `async` block around the loop (see `Kept`), keeps the layer while it waits.
///
/// It has no `Drop` of its own: otherwise a loop that changes the owner of the iterator before it is left would no
/// longer compile.
#[derive(Debug)]
pub struct Layers<I> {
    // Dropped first: the iterator's own drop is outside of the layers.
    scope: Scope,
    passes: I,
}

/// The layer that the loop is in.
#[derive(Debug)]
struct Scope {
    next: usize,
    /// Set while something records.
    outer: Option<Outer>,
}

/// What the loop restores when it ends.
#[derive(Debug)]
struct Outer {
    layer: Option<usize>,
    /// The future that was polled when the loop began.
    polled: u64,
}

impl<I> Layers<I> {
    #[inline(always)]
    #[allow(clippy::inline_always)] // otherwise the compiler does not inline it, and it costs a call
    pub(crate) fn new(passes: I) -> Self {
        let outer = if may_record() { Some(Outer::here()) } else { None };
        Self { scope: Scope { next: 0, outer }, passes }
    }
}

impl Outer {
    #[cold]
    #[inline(never)]
    fn here() -> Self {
        Self { layer: TraceContext::current().layer, polled: polled() }
    }

    /// A loop whose future was dropped while it waited ended long ago: the layer of this thread is not its own.
    fn set(&self, layer: Option<usize>) {
        if self.polled == polled() {
            TraceContext::set_layer(layer);
        }
    }
}

impl<I: Iterator> Iterator for Layers<I> {
    type Item = I::Item;

    #[inline]
    fn next(&mut self) -> Option<I::Item> {
        let Scope { next, outer } = &mut self.scope;
        if let Some(outer) = outer {
            // The iterator's own code is outside of the layers.
            outer.set(outer.layer);
        }
        let item = self.passes.next()?;
        if let Some(outer) = outer {
            outer.set(Some(*next));
            *next += 1;
        }
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.passes.size_hint()
    }
}

impl Drop for Scope {
    #[inline]
    fn drop(&mut self) {
        if let Some(outer) = &self.outer {
            outer.set(outer.layer);
        }
    }
}
