//! Futures that carry their context: entered at every poll, left when the poll returns, so that a
//! runtime of many threads cannot mix the layers of the tasks it runs.

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
    /// The body of an annotated `async fn`, or a boxed future that an annotated function returned:
    /// recorded when it is ready. One that is dropped before records nothing.
    #[must_use = "a future does nothing unless it is polled"]
    #[derive(Debug)]
    pub struct TracedFuture<F> {
        #[pin]
        future: F,
        // None: not recorded.
        site: Option<&'static Site>,
        context: Carried,
    }
}

#[derive(Debug)]
enum Carried {
    /// What the attribute sets; the rest is taken at the first poll.
    Scope(TraceContext),
    Whole(TraceContext),
}

impl<F> TracedFuture<F> {
    /// Takes its context at the first poll, as the body of an `async fn` begins only then.
    pub(crate) fn new(future: F, site: Option<&'static Site>, scope: TraceContext) -> Self {
        Self { future, site, context: Carried::Scope(scope) }
    }

    /// Has taken its context already, when it was created.
    pub(crate) fn created(future: F, site: &'static Site, context: TraceContext) -> Self {
        Self { future, site: Some(site), context: Carried::Whole(context) }
    }
}

impl<F: Future<Output: Traced>> Future for TracedFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if let Carried::Scope(scope) = this.context {
            let whole = scope.in_scope(TraceContext::current);
            *this.context = Carried::Whole(whole);
        }
        let (Carried::Scope(context) | Carried::Whole(context)) = this.context;
        context.in_scope(|| {
            let poll = this.future.poll(task);
            if let (Poll::Ready(value), Some(site)) = (&poll, *this.site)
                && may_record()
            {
                record_value(site.stage, Some(site), value);
            }
            poll
        })
    }
}
