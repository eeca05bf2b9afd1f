//! What the expansion of `#[traced]` calls. Not part of the API.
#![allow(clippy::inline_always)] // otherwise the compiler does not inline these, and each costs a call

use bitnet_trace_core::session::may_record;
use bitnet_trace_core::{ContextGuard, TraceContext};

pub use super::binding::Binding;
use super::binding::as_tensors;
pub use super::call_site::CallSite;
pub use super::future::Kept;
use super::future::{AsyncCall, Followed, TracedFuture, begun, is_awaited};
pub use super::layers::Layers;
pub use super::observe::Observe;
use super::record::{reach, record_input};
pub use crate::__binding as binding;
pub use crate::__site as site;
use crate::annotation::Traced;

/// Runs an annotated function's body and records what it returns.
///
/// The check comes before the body: if recording is off, the body's value goes straight to the caller and
/// need not be stored where a record could be made from it.
#[inline]
pub fn traced<R: Observe>(site: &'static CallSite, body: impl FnOnce() -> R) -> R {
    if may_record() { recorded(site, body) } else { body() }
}

#[inline(never)]
fn recorded<R: Observe>(site: &'static CallSite, body: impl FnOnce() -> R) -> R {
    reach(site);
    body().observe(Some(site))
}

/// The future of an annotated `async fn`, followed if anything may record at its first poll.
#[inline(always)]
pub fn future<F, S>(site: S, body: F) -> AsyncCall<F, impl Fn() -> Option<&'static CallSite>>
where
    F: Future,
    S: Fn() -> &'static CallSite,
{
    AsyncCall::new(body, move || Some(site()))
}

/// The same for an attribute with arguments beside the stage: the body begins with [`Call::begin`].
#[inline(always)]
pub fn future_with_settings<F: Future>(body: F) -> AsyncCall<F, impl Fn() -> Option<&'static CallSite>> {
    AsyncCall::new(body, || None)
}

/// One call of an annotated function whose attribute has arguments beside the stage.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    site: &'static CallSite,
    seq: Option<usize>,
    layer: Option<usize>,
    when: bool,
    /// Whether anything may record: checked once a call.
    recording: bool,
}

impl Call {
    /// A call in the scope that is open now.
    #[inline(always)]
    #[must_use]
    pub fn new(site: &'static CallSite) -> Self {
        Self { site, seq: None, layer: None, when: true, recording: may_record() }
    }

    /// A call whose future is being polled for the first time.
    #[inline(always)]
    #[must_use]
    pub fn in_future(site: &'static CallSite) -> Self {
        Self { site, seq: None, layer: None, when: true, recording: is_awaited() }
    }

    /// Sets the layer, if there is one.
    #[inline(always)]
    #[must_use]
    pub fn layer(self, layer: impl Index) -> Self {
        Self { layer: layer.index(), ..self }
    }

    /// Sets the sequence index, if there is one.
    #[inline(always)]
    #[must_use]
    pub fn seq(self, seq: impl Index) -> Self {
        Self { seq: seq.index(), ..self }
    }

    /// Records only if this is true.
    #[inline(always)]
    #[must_use]
    pub fn when(self, when: bool) -> Self {
        Self { when, ..self }
    }

    /// Records an argument now, before the body runs.
    #[inline(always)]
    #[must_use]
    pub fn input<T: Traced>(self, argument: &str, value: &T) -> Self {
        let Self { site, seq, layer, when, recording } = self;
        if recording && when {
            input(site, seq, layer, argument, value);
        }
        self
    }

    /// Runs the body in the scope and records what it returns.
    ///
    /// While nothing records, a function that returns a boxed future has no scope: its body runs later,
    /// and keeping a scope until then would take an allocation.
    #[inline(always)]
    pub fn run<R: Observe>(self, body: impl FnOnce() -> R) -> R {
        let Self { site, seq, layer, when, recording } = self;
        if recording {
            recorded_in(site, seq, layer, when, body)
        } else if R::IS_FUTURE {
            body()
        } else {
            let _scope = enter(seq, layer);
            body()
        }
    }

    /// Opens the scope inside a future that is polled for the first time. The future keeps the scope for
    /// later polls. While nothing records there is no scope.
    #[inline(always)]
    pub fn begin(self) {
        let Self { site, seq, layer, when, recording } = self;
        if recording {
            begin(site, seq, layer, when);
        }
    }

    /// The body of an `async fn`. It is followed if anything may record now, at its first poll.
    ///
    /// There is no bound on its output here: the compiler checks that it holds tensors where the future is
    /// awaited, and reports an error once.
    #[inline(always)]
    pub fn run_async<F: Future>(self, body: F) -> TracedFuture<F> {
        let Self { site, seq, layer, when, recording } = self;
        TracedFuture::new(body, if recording { Some(followed(site, seq, layer, when)) } else { None })
    }
}

// These functions take the parts of a call, not the call: the parts are passed in registers, while the call
// would need memory even if nothing records.

#[inline(always)]
fn enter(seq: Option<usize>, layer: Option<usize>) -> ContextGuard {
    let mut scope = TraceContext::default();
    (scope.seq, scope.layer) = (seq, layer);
    scope.enter()
}

#[cold]
#[inline(never)]
fn input(site: &'static CallSite, seq: Option<usize>, layer: Option<usize>, argument: &str, value: &dyn Traced) {
    let _scope = enter(seq, layer);
    record_input(site, argument, value);
}

#[inline(never)]
fn recorded_in<R: Observe>(
    site: &'static CallSite,
    seq: Option<usize>,
    layer: Option<usize>,
    when: bool,
    body: impl FnOnce() -> R,
) -> R {
    reach(site);
    let _scope = enter(seq, layer);
    body().observe(when.then_some(site))
}

#[cold]
#[inline(never)]
#[allow(clippy::unnecessary_box_returns)] // a box fits a register, the call itself would need memory
fn followed(site: &'static CallSite, seq: Option<usize>, layer: Option<usize>, when: bool) -> Box<Followed> {
    reach(site);
    let _scope = enter(seq, layer);
    Followed::here(when.then_some(site))
}

#[cold]
#[inline(never)]
fn begin(site: &'static CallSite, seq: Option<usize>, layer: Option<usize>, when: bool) {
    reach(site);
    // The future that polls the body restores the context that it found.
    std::mem::forget(enter(seq, layer));
    begun(Followed::here(when.then_some(site)));
}

/// Records a variable that was just bound, if its type is one of tensors.
#[inline(always)]
pub fn local<T>(binding: &'static Binding, value: &T) {
    if let Some(value) = as_tensors(value)
        && may_record()
    {
        binding.record(value);
    }
}

/// The same for a variable that `locals(..)` names.
#[inline(always)]
pub fn named_local<T: Local>(binding: &'static Binding, value: &T) {
    if may_record() {
        binding.record(value);
    }
}

/// [`local`] for an attribute with `when`, whose value comes first.
#[inline(always)]
pub fn local_when<T>(when: bool, binding: &'static Binding, value: &T) {
    if when {
        local(binding, value);
    }
}

/// [`named_local`] for an attribute with `when`, whose value comes first.
#[inline(always)]
pub fn named_local_when<T: Local>(when: bool, binding: &'static Binding, value: &T) {
    if when {
        named_local(binding, value);
    }
}

/// [`local`] in a future: the variable passes through. A borrow would count as one that lasts until the variable's
/// scope ends, and the future could no longer move to another thread if the variable cannot.
#[inline(always)]
pub fn passed<T>(binding: &'static Binding, value: T) -> T {
    local(binding, &value);
    value
}

/// [`passed`] for an attribute with `when`.
#[inline(always)]
pub fn passed_when<T>(when: bool, binding: &'static Binding, value: T) -> T {
    local_when(when, binding, &value);
    value
}

/// An `async` block with a loop whose passes are layers.
pub fn kept<F: Future>(future: F) -> Kept<F> {
    Kept::new(future)
}

/// A variable that `locals(..)` may name.
#[diagnostic::on_unimplemented(
    message = "`locals` cannot record a variable of type `{Self}`: it holds no tensor",
    label = "expected a variable that is a `Tensor`, or an `Option`, `Vec` or tuple of tensors",
    note = "`locals` without a list records every tensor and passes over what is none"
)]
pub trait Local: Traced {}

impl<T: Traced> Local for T {}

/// The passes of a loop as layers: 0, 1, 2, and so on.
#[inline(always)]
pub fn layers<I: IntoIterator>(passes: I) -> Layers<I::IntoIter> {
    Layers::new(passes.into_iter())
}

/// A layer or a sequence index as the attribute accepts it: an integer (a negative one means that there is no
/// index), a reference to one, or an `Option` of these.
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
