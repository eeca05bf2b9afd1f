//! What the expansion of `#[traced]` calls, and what benchmarks measure. Not part of the API.

pub use crate::__site as site;
pub use crate::fingerprint::{Fingerprint, Kernel, Statistics, Wanted, fingerprint, fingerprint_with};
pub use crate::site::Site;

use crate::context::TraceContext;
use crate::future::TracedFuture;
pub use crate::observe::Observe;
use crate::recorder::{reach, record_input};
use crate::session::may_record;
use crate::traced::Traced;

/// Runs an annotated function's body and records what it returns.
///
/// Asks before the body runs: where recording is off, the body's value goes straight to the caller
/// instead of through a place that a record could be made from.
#[inline]
pub fn traced<R: Observe>(site: &'static Site, body: impl FnOnce() -> R) -> R {
    if may_record() { recorded(site, body) } else { body() }
}

#[inline(never)]
fn recorded<R: Observe>(site: &'static Site, body: impl FnOnce() -> R) -> R {
    body().observe(site)
}

/// One call of an annotated function whose attribute has arguments beside the stage.
#[derive(Debug)]
pub struct Call {
    site: &'static Site,
    scope: TraceContext,
    when: bool,
}

impl Call {
    /// A call that is recorded in the scope it finds.
    #[inline]
    #[must_use]
    pub fn new(site: &'static Site) -> Self {
        Self { site, scope: TraceContext::default(), when: true }
    }

    /// Sets the layer, if there is one.
    #[inline]
    #[must_use]
    pub fn layer(mut self, layer: impl Index) -> Self {
        self.scope.layer = layer.index();
        self
    }

    /// Sets the sequence index, if there is one.
    #[inline]
    #[must_use]
    pub fn seq(mut self, seq: impl Index) -> Self {
        self.scope.seq = seq.index();
        self
    }

    /// Records only if this is true.
    #[inline]
    #[must_use]
    pub fn when(mut self, when: bool) -> Self {
        self.when = when;
        // Called it is all the same.
        if !when && may_record() {
            reach(self.site);
        }
        self
    }

    /// Records an argument now, before the body runs.
    #[inline]
    #[must_use]
    pub fn input<T: Traced>(self, argument: &str, value: &T) -> Self {
        if self.when && may_record() {
            self.scope.in_scope(|| record_input(self.site, argument, value));
        }
        self
    }

    /// Runs the body in the scope and records what it returns.
    #[inline]
    pub fn run<R: Observe>(self, body: impl FnOnce() -> R) -> R {
        let _scope = self.scope.enter();
        let value = body();
        if self.when { value.observe(self.site) } else { value }
    }

    /// The same for the body of an `async fn`, whose scope is entered at every poll.
    ///
    /// What it returns is asked to hold tensors where the future is awaited: once.
    #[inline]
    pub fn run_async<F: Future>(self, body: F) -> TracedFuture<F> {
        TracedFuture::new(body, self.when.then_some(self.site), self.scope)
    }
}

/// What may stand for a layer or a sequence index: an integer, where a negative one means none, a
/// reference to one, or an `Option` of these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a layer or a sequence index",
    label = "expected an integer or an `Option` of one"
)]
pub trait Index {
    /// The index, if there is one.
    fn index(self) -> Option<usize>;
}

macro_rules! index {
    ($($integer:ty),*) => {$(
        impl Index for $integer {
            #[inline]
            fn index(self) -> Option<usize> {
                usize::try_from(self).ok()
            }
        }
    )*};
}

index!(usize, u8, u16, u32, u64, isize, i8, i16, i32, i64);

impl<T: Index + Copy> Index for &T {
    #[inline]
    fn index(self) -> Option<usize> {
        (*self).index()
    }
}

impl<T: Index> Index for Option<T> {
    #[inline]
    fn index(self) -> Option<usize> {
        self.and_then(Index::index)
    }
}
