//! Records the value that an annotated function returned, now or when it is ready.

use std::pin::Pin;

use super::call_site::CallSite;
use super::future::{Followed, TracedFuture};
use super::record::record_value;
use crate::annotation::Traced;

/// A value that can be recorded now, or a boxed future of one, which is recorded when it is ready.
/// `#[async_trait]` turns an `async fn` into a function that returns such a future.
#[diagnostic::on_unimplemented(
    message = "`#[traced]` cannot record a return value of type `{Self}`: it holds no tensor",
    label = "expected a `Tensor`, or an `Option`, `Result`, tuple, `Vec`, array, map or boxed future of tensors",
    note = "a type of your own can derive or implement `bitnet_trace::Traced`"
)]
pub trait Observe {
    /// Whether the value is a future, whose body runs later.
    const IS_FUTURE: bool;

    /// Records the value, or wraps it to be recorded later, and returns it. Without a site the value itself
    /// is not recorded, but a future still keeps the context for the functions that it calls.
    #[must_use]
    fn observe(self, site: Option<&'static CallSite>) -> Self;
}

impl<T: Traced> Observe for T {
    const IS_FUTURE: bool = false;

    #[inline]
    fn observe(self, site: Option<&'static CallSite>) -> Self {
        if let Some(site) = site {
            record_value(site.stage, Some(site), &self);
        }
        self
    }
}

impl<'a, T: Traced + 'a> Observe for Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    const IS_FUTURE: bool = true;

    fn observe(self, site: Option<&'static CallSite>) -> Self {
        Box::pin(TracedFuture::new(self, Some(Followed::here(site))))
    }
}

impl<'a, T: Traced + 'a> Observe for Pin<Box<dyn Future<Output = T> + 'a>> {
    const IS_FUTURE: bool = true;

    fn observe(self, site: Option<&'static CallSite>) -> Self {
        Box::pin(TracedFuture::new(self, Some(Followed::here(site))))
    }
}
