//! The scoped context: the layer, the step and the token positions that this thread is working on.
//!
//! The context is thread-local and imports no other module of this crate. It carries a session as an opaque
//! handle, so that the sessions can build on the context and not the other way round.
#![allow(clippy::inline_always)] // the compiler removes the fields that a scope does not set only if it inlines

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// The session that records in a context. The type is opaque here: only the module `session` looks inside.
pub(crate) type SessionHandle = Arc<dyn Any + Send + Sync>;

/// The place in the model that a record belongs to: step, layer, request and token positions.
///
/// The context is thread-local and scoped: [`enter`](Self::enter) sets the fields that are not `None` and
/// returns a guard that restores the previous values. Nested scopes override only the fields they set.
///
/// ```
/// use bitnet_trace_core::TraceContext;
///
/// let _step = TraceContext::seq(3).with_tokens(14..15).enter();
/// for index in 0..2 {
///     let _layer = TraceContext::layer(index).enter();
///     assert_eq!(TraceContext::current().seq, Some(3));
///     assert_eq!(TraceContext::current().layer, Some(index));
/// }
/// assert_eq!(TraceContext::current().layer, None);
/// ```
///
/// A new thread starts with an empty context. [`current`](Self::current) copies the context of this thread,
/// with its [`TraceSession`](crate::session::TraceSession), so that another thread can enter it:
///
/// ```
/// use bitnet_trace_core::TraceContext;
///
/// let _layer = TraceContext::layer(7).enter();
/// let here = TraceContext::current();
/// std::thread::spawn(move || here.in_scope(|| assert_eq!(TraceContext::current().layer, Some(7))))
///     .join()
///     .unwrap();
/// ```
#[derive(Clone, Default)]
#[must_use = "a context does nothing until it is entered"]
#[non_exhaustive]
pub struct TraceContext {
    /// 0 for prefill, 1, 2, ... for the decode steps after it.
    pub seq: Option<usize>,
    /// Index of the transformer block.
    pub layer: Option<usize>,
    /// Number of the prompt, for programs that run several.
    pub request: Option<u64>,
    /// The token positions that the call computes, end excluded.
    pub tokens: Option<Range<usize>>,
    /// The session that records; `None` means the session that the environment configures.
    session: Option<SessionHandle>,
    /// Whether `current` made this context: then entering it clears the fields that are `None` instead of
    /// inheriting them.
    complete: bool,
}

/// One cell per field, so that a scope touches only the fields it sets.
struct Cells {
    seq: Cell<Option<usize>>,
    layer: Cell<Option<usize>>,
    request: Cell<Option<u64>>,
    tokens: Cell<Option<(usize, usize)>>,
}

thread_local! {
    static CELLS: Cells = const {
        Cells {
            seq: Cell::new(None),
            layer: Cell::new(None),
            request: Cell::new(None),
            tokens: Cell::new(None),
        }
    };
    // Kept apart from the cells above: it needs a destructor, which would slow down every access to them.
    static SESSION: RefCell<Option<SessionHandle>> = const { RefCell::new(None) };
}

impl TraceContext {
    /// A context that sets the sequence index: 0 for prefill, 1, 2, ... for decode steps.
    #[inline(always)]
    pub fn seq(seq: usize) -> Self {
        Self::default().with_seq(seq)
    }

    /// A context that sets the layer.
    #[inline(always)]
    pub fn layer(layer: usize) -> Self {
        Self::default().with_layer(layer)
    }

    /// A context that sets the request.
    #[inline(always)]
    pub fn request(request: u64) -> Self {
        Self::default().with_request(request)
    }

    /// A context that sets the token positions.
    #[inline(always)]
    pub fn tokens(tokens: Range<usize>) -> Self {
        Self::default().with_tokens(tokens)
    }

    /// Sets the sequence index as well.
    #[inline(always)]
    pub fn with_seq(self, seq: usize) -> Self {
        Self { seq: Some(seq), ..self }
    }

    /// Sets the layer as well.
    #[inline(always)]
    pub fn with_layer(self, layer: usize) -> Self {
        Self { layer: Some(layer), ..self }
    }

    /// Sets the request as well.
    #[inline(always)]
    pub fn with_request(self, request: u64) -> Self {
        Self { request: Some(request), ..self }
    }

    /// Sets the token positions as well.
    #[inline(always)]
    pub fn with_tokens(self, tokens: Range<usize>) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// A copy of this thread's whole context. Entering it on another thread replaces the context there.
    pub fn current() -> Self {
        CELLS.with(|cells| Self {
            seq: cells.seq.get(),
            layer: cells.layer.get(),
            request: cells.request.get(),
            tokens: cells.tokens.get().map(|(start, end)| start..end),
            session: session_handle(),
            complete: true,
        })
    }

    /// Sets this thread's context until the guard is dropped.
    ///
    /// **The guard must not be held across an `.await`**: see [`ContextGuard`].
    #[inline(always)]
    pub fn enter(self) -> ContextGuard {
        let has_rare_fields =
            self.complete || self.request.is_some() || self.tokens.is_some() || self.session.is_some();
        ContextGuard {
            seq: set(|cells| &cells.seq, self.seq, self.complete),
            layer: set(|cells| &cells.layer, self.layer, self.complete),
            rare: ManuallyDrop::new(if has_rare_fields { Some(RareFields::enter(self)) } else { None }),
            not_send: PhantomData,
        }
    }

    /// Calls `f` inside this context. Use it to carry a context to another thread.
    pub fn in_scope<R>(&self, f: impl FnOnce() -> R) -> R {
        let _scope = self.clone().enter();
        f()
    }

    /// Sets this thread's layer, without a guard that would restore it: for scopes that end where no guard can be
    /// dropped.
    #[inline(always)]
    pub fn set_layer(layer: Option<usize>) {
        CELLS.with(|cells| cells.layer.set(layer));
    }

    /// A context that sets only the session.
    pub(crate) fn of_session(session: SessionHandle) -> Self {
        Self { session: Some(session), ..Self::default() }
    }
}

/// A context that is put aside without keeping its session alive.
#[derive(Debug)]
pub struct ParkedContext {
    context: TraceContext,
    session: Option<Weak<dyn Any + Send + Sync>>,
}

/// Stands in for a session that no longer exists.
struct Gone;

impl TraceContext {
    /// Puts the context aside, without keeping its session alive.
    #[must_use]
    pub fn park(mut self) -> ParkedContext {
        let session = self.session.take().map(|session| Arc::downgrade(&session));
        ParkedContext { context: self, session }
    }
}

impl ParkedContext {
    /// The context as it was before [`TraceContext::park`]. If its session no longer exists, nothing is recorded
    /// in it.
    pub fn unpark(self) -> TraceContext {
        let session = self.session.map(|session| session.upgrade().unwrap_or_else(|| Arc::new(Gone)));
        TraceContext { session, ..self.context }
    }
}

/// The session whose scope this thread is in; `None` outside every scope.
pub(crate) fn session_handle() -> Option<SessionHandle> {
    // The thread-local is unreachable while the thread ends; then there is no session.
    SESSION.try_with(|session| session.try_borrow().ok()?.clone()).ok().flatten()
}

fn set_session(session: Option<SessionHandle>) -> Option<SessionHandle> {
    SESSION.try_with(|current| current.replace(session)).ok().flatten()
}

/// The value that a scope replaced in a field, if it changed the field.
#[derive(Debug)]
enum Previous<T> {
    Kept,
    Replaced(T),
}

/// Sets a field if the new context has a value for it, or if the context is `complete`.
///
/// Each access is small enough for the compiler to inline. Where the compiler sees which fields a scope sets,
/// it removes the code for the others.
#[inline(always)]
fn set<T: Copy>(field: impl Fn(&Cells) -> &Cell<Option<T>>, value: Option<T>, complete: bool) -> Previous<Option<T>> {
    if !complete && value.is_none() {
        return Previous::Kept;
    }
    let previous = CELLS.with(|cells| field(cells).get());
    CELLS.with(|cells| field(cells).set(value));
    Previous::Replaced(previous)
}

#[inline(always)]
fn restore<T: Copy>(field: impl Fn(&Cells) -> &Cell<Option<T>>, previous: &Previous<Option<T>>) {
    if let Previous::Replaced(previous) = *previous {
        CELLS.with(|cells| field(cells).set(previous));
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceContext")
            .field("seq", &self.seq)
            .field("layer", &self.layer)
            .field("request", &self.request)
            .field("tokens", &self.tokens)
            .field("in_session", &self.session.is_some())
            .finish_non_exhaustive()
    }
}

/// Restores the previous context when it is dropped.
///
/// The guard is not `Send`, because the context is thread-local.
///
/// # In asynchronous code
///
/// **A guard must not be held across an `.await`.** The context belongs to the thread, not to the
/// task: while the task waits, its layer and step would apply to whatever else the thread runs, and the
/// task would lose them when it resumes on another thread. The compiler rejects such a guard only where the
/// future must be `Send`. Use [`TraceContext::instrument`] for futures and [`TraceContext::in_scope`] for
/// synchronous code:
///
/// ```
/// # use bitnet_trace_core::TraceContext;
/// # async fn forward() {}
/// # fn load() {}
/// async fn block(index: usize) {
///     let layer = TraceContext::layer(index);
///     layer.in_scope(|| load());
///     layer.instrument(forward()).await;
/// }
/// ```
///
/// clippy finds guards held across an `.await` if its `clippy.toml` says
/// `await-holding-invalid-types = ["bitnet_trace::ContextGuard"]`.
#[must_use = "the context ends when the guard is dropped; bind it, as in `let _layer = ...`"]
#[derive(Debug)]
pub struct ContextGuard {
    seq: Previous<Option<usize>>,
    layer: Previous<Option<usize>>,
    // `drop` takes it by hand: the drop glue that the compiler would add prevents inlining.
    rare: ManuallyDrop<Option<RareFields>>,
    not_send: PhantomData<*const ()>,
}

impl Drop for ContextGuard {
    #[inline(always)]
    fn drop(&mut self) {
        restore(|cells| &cells.seq, &self.seq);
        restore(|cells| &cells.layer, &self.layer);
        // By value: a reference would force the guard into memory, and then its checks cannot be removed.
        if let Some(rare) = self.rare.take() {
            rare.leave();
        }
    }
}

/// The previous values of the fields that scopes rarely set: once per step or task, not once per layer.
#[derive(Debug)]
struct RareFields {
    request: Previous<Option<u64>>,
    tokens: Previous<Option<(usize, usize)>>,
    session: Previous<Option<SessionHandle>>,
}

impl RareFields {
    #[inline(never)]
    fn enter(context: TraceContext) -> Self {
        let TraceContext { request, tokens, session, complete, .. } = context;
        let tokens = tokens.map(|tokens| (tokens.start, tokens.end));
        Self {
            request: set(|cells| &cells.request, request, complete),
            tokens: set(|cells| &cells.tokens, tokens, complete),
            session: if complete || session.is_some() {
                Previous::Replaced(set_session(session))
            } else {
                Previous::Kept
            },
        }
    }

    #[inline(never)]
    fn leave(self) {
        restore(|cells| &cells.request, &self.request);
        restore(|cells| &cells.tokens, &self.tokens);
        if let Previous::Replaced(session) = self.session {
            set_session(session);
        }
    }
}

/// A context must stay easy to carry to other threads: this does not compile unless it has these traits.
const _: () = {
    const fn carried<T: Send + Sync + Clone + fmt::Debug>() {}
    carried::<TraceContext>();
};

#[cfg(test)]
mod tests {
    use super::TraceContext;

    #[test]
    fn nested_scopes_override_only_what_they_set() {
        let _outer = TraceContext::seq(2).with_layer(1).with_tokens(4..6).with_request(9).enter();
        {
            let _inner = TraceContext::layer(5).enter();
            let now = TraceContext::current();
            assert_eq!((now.seq, now.layer, now.request, now.tokens), (Some(2), Some(5), Some(9), Some(4..6)));
        }
        assert_eq!(TraceContext::current().layer, Some(1));
    }

    #[test]
    fn a_context_carried_over_replaces_what_it_finds() {
        let here = TraceContext::current();
        let _layer = TraceContext::layer(3).enter();
        here.in_scope(|| assert_eq!(TraceContext::current().layer, None));
        assert_eq!(TraceContext::current().layer, Some(3));
    }

    #[test]
    fn a_panic_inside_leaves_the_context_as_it_was() {
        let caught = std::panic::catch_unwind(|| TraceContext::layer(3).in_scope(|| panic!("inside")));
        assert!(caught.is_err());
        assert_eq!(TraceContext::current().layer, None);
    }

    #[test]
    fn carried_to_another_thread() {
        let _scope = TraceContext::seq(1).with_layer(8).enter();
        let here = TraceContext::current();
        let seen = std::thread::spawn(move || here.in_scope(|| TraceContext::current().layer)).join();
        assert_eq!(seen.ok().flatten(), Some(8));
    }
}
