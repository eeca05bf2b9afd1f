//! What happens to the value that an annotated function returned.

use std::pin::Pin;

use crate::context::TraceContext;
use crate::future::TracedFuture;
use crate::recorder::record_value;
use crate::session::may_record;
use crate::site::Site;
use crate::traced::Traced;

/// A value that can be recorded now, or a boxed future of one, which is recorded when it is ready:
/// what `#[async_trait]` makes of an `async fn`.
#[diagnostic::on_unimplemented(
    message = "`#[traced]` cannot record a return value of type `{Self}`: it holds no tensor",
    label = "expected a `Tensor`, or an `Option`, `Result`, tuple, `Vec`, array, map or boxed future of tensors",
    note = "a type of your own can derive or implement `bitnet_trace::Traced`"
)]
pub trait Observe {
    /// Gives the value back, recorded or about to be.
    #[must_use]
    fn observe(self, site: &'static Site) -> Self;
}

impl<T: Traced> Observe for T {
    #[inline]
    fn observe(self, site: &'static Site) -> Self {
        if may_record() {
            record_value(site.stage, Some(site), &self);
        }
        self
    }
}

impl<'a, T: Traced + 'a> Observe for Pin<Box<dyn Future<Output = T> + Send + 'a>> {
    fn observe(self, site: &'static Site) -> Self {
        Box::pin(TracedFuture::created(self, site, TraceContext::current()))
    }
}

impl<'a, T: Traced + 'a> Observe for Pin<Box<dyn Future<Output = T> + 'a>> {
    fn observe(self, site: &'static Site) -> Self {
        Box::pin(TracedFuture::created(self, site, TraceContext::current()))
    }
}
