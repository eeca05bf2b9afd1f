//! What the expansion of `#[traced]` calls, and what benchmarks measure. Not part of the API.

pub use crate::fingerprint::{Fingerprint, Kernel, Statistics, Wanted, fingerprint, fingerprint_with};
pub use crate::site::Site;

use crate::context::{ContextGuard, TraceContext};
use crate::recorder::record_value;
use crate::session::may_record;
use crate::traced::Traced;

/// Runs an annotated function's body and records what it returns.
///
/// Asks before the body runs: where recording is off, the body's value goes straight to the caller
/// instead of through a place that a record could be made from.
#[inline]
pub fn traced<R: Traced>(site: &'static Site, body: impl FnOnce() -> R) -> R {
    if may_record() { recorded(site, body) } else { body() }
}

#[inline(never)]
fn recorded<R: Traced>(site: &'static Site, body: impl FnOnce() -> R) -> R {
    let value = body();
    record_value(site.stage, Some(site), &value);
    value
}

/// The same inside a scope of its own.
#[inline]
pub fn traced_in<R: Traced>(site: &'static Site, scope: Scope, body: impl FnOnce() -> R) -> R {
    let _scope = scope.enter();
    traced(site, body)
}

/// The arguments `layer` and `seq` of the attribute.
#[derive(Debug, Default)]
pub struct Scope(TraceContext);

impl Scope {
    /// A scope that sets nothing.
    #[inline]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the layer, if there is one.
    #[inline]
    #[must_use]
    pub fn layer(mut self, layer: impl Index) -> Self {
        self.0.layer = layer.index();
        self
    }

    /// Sets the sequence index, if there is one.
    #[inline]
    #[must_use]
    pub fn seq(mut self, seq: impl Index) -> Self {
        self.0.seq = seq.index();
        self
    }

    #[inline]
    fn enter(self) -> ContextGuard {
        self.0.enter()
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
