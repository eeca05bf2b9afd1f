//! What happens to the value that an annotated function returned.

use std::pin::Pin;

use super::call_site::CallSite;
use super::future::{Followed, TracedFuture};
use super::record::record_value;
use crate::annotation::Traced;

/// A value that can be recorded now, or a boxed future of one, which is recorded when it is ready:
/// what `#[async_trait]` makes of an `async fn`.
#[diagnostic::on_unimplemented(
    message = "`#[traced]` cannot record a return value of type `{Self}`: it holds no tensor",
    label = "expected a `Tensor`, or an `Option`, `Result`, tuple, `Vec`, array, map or boxed future of tensors",
    note = "a type of your own can derive or implement `bitnet_trace::Traced`"
)]
pub trait Observe {
    /// Whether the value is a future, whose body runs later.
    const IS_FUTURE: bool;

    /// Gives the value back: recorded, or about to be. Without a site it is not recorded itself; a
    /// future then still keeps the context for what it calls.
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
