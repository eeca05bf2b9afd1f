//! Futures that carry a context. The context is entered at every poll and left when the poll returns, so that
//! a runtime with many threads cannot mix up the layers of the tasks it runs.

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::context::TraceContext;

pin_project! {
    /// A future that is always polled inside one context, see [`TraceContext::instrument`].
    #[must_use = "a future does nothing unless it is polled"]
    #[derive(Debug)]
    pub struct Instrumented<F> {
        #[pin]
        future: F,
        context: TraceContext,
    }
}

impl TraceContext {
    /// Wraps a future so that it is polled in this context, whichever thread polls it. Use it to carry a
    /// context into a spawned task.
    pub fn instrument<F: Future>(&self, future: F) -> Instrumented<F> {
        Instrumented { future, context: self.clone() }
    }
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.context.in_scope(|| this.future.poll(task))
    }
}
