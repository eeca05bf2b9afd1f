//! Futures that carry their context: entered at every poll, left when the poll returns, so that a
//! runtime of many threads cannot mix the layers of the tasks it runs.
#![allow(clippy::inline_always)] // left to itself the compiler keeps in place what costs a call here

use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::context::TraceContext;
use crate::recorder::record_value;
use crate::session::may_record;
use crate::site::Site;
use crate::traced::Traced;

pin_project! {
    /// A future that is always polled in one context.
    #[must_use = "a future does nothing unless it is polled"]
    #[derive(Debug)]
    pub struct Instrumented<F> {
        #[pin]
        future: F,
        context: TraceContext,
    }
}

impl<F> Instrumented<F> {
    pub(crate) fn new(future: F, context: TraceContext) -> Self {
        Self { future, context }
    }
}

impl<F: Future> Future for Instrumented<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        this.context.in_scope(|| this.future.poll(task))
    }
}

pin_project! {
    /// The body of an annotated `async fn`, or a boxed future that an annotated function returned.
    /// Followed, it is always polled in one context and recorded when it is ready; one that is
    /// dropped before records nothing.
    #[must_use = "a future does nothing unless it is polled"]
    #[derive(Debug)]
    pub struct TracedFuture<F> {
        #[pin]
        future: F,
        // `None` where nothing recorded when the future began: then it is polled as it is.
        followed: Option<Box<Followed>>,
    }
}

impl<F> TracedFuture<F> {
    #[inline(always)]
    pub(crate) fn new(future: F, followed: Option<Box<Followed>>) -> Self {
        Self { future, followed }
    }
}

impl<F: Future<Output: Traced>> Future for TracedFuture<F> {
    type Output = F::Output;

    // The two ways stay apart, so that without recording the value goes straight to the caller.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.followed {
            None => this.future.poll(task),
            Some(followed) => followed.poll(this.future, task),
        }
    }
}

/// A future's call: where it was made.
#[derive(Debug)]
pub(crate) struct Followed {
    /// `None`: only what the future calls is recorded.
    site: Option<&'static Site>,
    context: TraceContext,
}

impl Followed {
    /// Takes this thread's context as it is now.
    #[allow(clippy::unnecessary_box_returns)] // a register, where the call itself would take memory
    pub(crate) fn here(site: Option<&'static Site>) -> Box<Self> {
        Box::new(Self { site, context: TraceContext::current() })
    }

    #[cold]
    #[inline(never)]
    fn poll<F: Future<Output: Traced>>(&self, future: Pin<&mut F>, task: &mut Context<'_>) -> Poll<F::Output> {
        self.context.in_scope(|| {
            let poll = future.poll(task);
            if let (Poll::Ready(value), Some(site)) = (&poll, self.site)
                && may_record()
            {
                record_value(site.stage, Some(site), value);
            }
            poll
        })
    }
}
