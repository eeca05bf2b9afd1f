//! Futures that carry their context: they enter it at every poll and leave it when the poll returns, so
//! that a runtime of many threads cannot mix the layers of the tasks it runs.
#![allow(clippy::inline_always)] // otherwise the compiler does not inline these, and each costs a call

use std::cell::Cell;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bitnet_trace_core::TraceContext;
use bitnet_trace_core::session::{self, may_record};
use pin_project_lite::pin_project;

use super::call_site::CallSite;
use super::record::{reach, record_value};
use crate::annotation::Traced;

pin_project! {
    /// The body of an annotated `async fn`, or a boxed future that an annotated function returned. If it
    /// is followed, every poll runs in the same context, and its output is recorded when it is ready. A
    /// future that is dropped earlier records nothing.
    #[must_use = "a future does nothing unless it is polled"]
    #[derive(Debug)]
    pub struct TracedFuture<F> {
        #[pin]
        future: F,
        // `None` if nothing was recording when the future began: then it is only polled.
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

    // Two separate branches, so that without recording the value goes straight to the caller.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        match this.followed {
            None => this.future.poll(task),
            Some(followed) => followed.poll(this.future, task),
        }
    }
}

pin_project! {
    /// An `async` block inside a body, with a loop whose passes are layers. It keeps its layer while it waits, and leaves
    /// the layer of whoever polls it as it was.
    #[must_use = "a future does nothing unless it is polled"]
    #[derive(Debug)]
    pub struct Kept<F> {
        #[pin]
        future: F,
        // Set at the first poll, while something records.
        context: Option<(TraceContext, u64)>,
    }
}

impl<F> Kept<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future, context: None }
    }
}

impl<F: Future> Future for Kept<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        if this.context.is_none() && !may_record() {
            return this.future.poll(task);
        }
        let (context, number) = this.context.get_or_insert_with(|| (TraceContext::current(), next_number()));
        let _polled = Polled::begin(*number);
        let _context = context.clone().enter();
        let poll = this.future.poll(task);
        if poll.is_pending() {
            *context = TraceContext::current();
        }
        poll
    }
}

pin_project! {
    /// The future of an annotated `async fn`, without an `async fn` around it.
    ///
    /// It owns nothing that has to be dropped: otherwise the code that awaits it would move its result an
    /// extra time. The calls that are followed are kept in a table, see `parked`.
    #[must_use = "a future does nothing unless it is polled"]
    pub struct AsyncCall<F, S> {
        #[pin]
        future: F,
        state: State,
        // Gives the site; `None` where the body begins with `Call::begin`.
        site: S,
    }
}

/// The progress of an `AsyncCall`: a byte that equals `session::state()` only if the future was not polled
/// yet and nothing records. One comparison then decides for the branch that has to be short.
#[derive(Debug, Clone, Copy, PartialEq)]
struct State(u8);

impl State {
    /// It was not polled yet.
    const NEW: Self = Self(session::OFF);
    /// Nothing was recording at its first poll: it is only polled.
    const UNFOLLOWED: Self = Self(u8::MAX);
    /// It is polled in its context, which is parked.
    const FOLLOWED: Self = Self(u8::MAX - 1);
}

impl<F, S> AsyncCall<F, S> {
    #[inline(always)]
    pub(crate) fn new(future: F, site: S) -> Self {
        Self { future, state: State::NEW, site }
    }
}

impl<F, S> Future for AsyncCall<F, S>
where
    F: Future<Output: Traced>,
    S: Fn() -> Option<&'static CallSite>,
{
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // The state is used only once here, so that it is compared in memory without being loaded.
        if this.state.0 != session::state() {
            return follow(this.future, task, this.state, (this.site)());
        }
        *this.state = State::UNFOLLOWED;
        this.future.poll(task)
    }
}

/// Handles every poll except a first one while nothing records.
#[inline(never)]
fn follow<F: Future<Output: Traced>>(
    future: Pin<&mut F>,
    task: &mut Context<'_>,
    state: &mut State,
    site: Option<&'static CallSite>,
) -> Poll<F::Output> {
    if *state == State::UNFOLLOWED {
        return future.poll(task);
    }
    let place = std::ptr::from_mut(state).addr();
    let (poll, followed) = match (*state, site) {
        (State::NEW, None) => begin(future, task),
        (State::NEW, Some(site)) => {
            reach(site);
            let mut followed = Followed::here(Some(site));
            (followed.poll(future, task), Some(followed))
        }
        _ => match parked::take(place) {
            Some(mut followed) => (followed.poll(future, task), Some(followed)),
            None => (future.poll(task), None),
        },
    };
    *state = match followed {
        Some(followed) if poll.is_pending() => {
            parked::put(place, *followed);
            State::FOLLOWED
        }
        _ => State::UNFOLLOWED,
    };
    poll
}

/// Polls a body that begins with `Call::begin` for the first time.
fn begin<F: Future<Output: Traced>>(
    future: Pin<&mut F>,
    task: &mut Context<'_>,
) -> (Poll<F::Output>, Option<Box<Followed>>) {
    let _context = TraceContext::current().enter();
    let number = next_number();
    let _polled = Polled::begin(number);
    let awaiting = Awaiting::new();
    let poll = future.poll(task);
    let mut followed = awaiting.begun();
    if let Some(followed) = &mut followed {
        followed.number = number;
        followed.after(&poll);
    }
    (poll, followed)
}

thread_local! {
    /// The number of the followed future that this thread polls; 0 outside of one.
    static POLLED: Cell<u64> = const { Cell::new(0) };
}

/// The number of the followed future that this thread polls now; 0 outside of one.
pub(crate) fn polled() -> u64 {
    POLLED.get()
}

/// A number that no other followed future has.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A poll of a followed future, also if it panics.
struct Polled {
    outer: u64,
}

impl Polled {
    fn begin(number: u64) -> Self {
        Self { outer: POLLED.replace(number) }
    }
}

impl Drop for Polled {
    fn drop(&mut self) {
        POLLED.set(self.outer);
    }
}

/// The calls of futures that wait.
///
/// The key is the address of the future, which is pinned. A future that is dropped while it waits leaves
/// its entry behind until another one waits at the same address. Such an entry keeps no session alive.
mod parked {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use bitnet_trace_core::ParkedContext;

    use super::{CallSite, Followed};

    struct Parked {
        site: Option<&'static CallSite>,
        call: ParkedContext,
        context: ParkedContext,
        number: u64,
    }

    static PARKED: Mutex<BTreeMap<usize, Parked>> = Mutex::new(BTreeMap::new());

    fn parked() -> MutexGuard<'static, BTreeMap<usize, Parked>> {
        PARKED.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn put(place: usize, followed: Followed) {
        let Followed { site, call, context, number } = followed;
        let before = parked().insert(place, Parked { site, call: call.park(), context: context.park(), number });
        drop(before);
    }

    pub(super) fn take(place: usize) -> Option<Box<Followed>> {
        let Parked { site, call, context, number } = parked().remove(&place)?;
        Some(Box::new(Followed { site, call: call.unpark(), context: context.unpark(), number }))
    }
}

thread_local! {
    /// Whether a future is about to poll a body for the first time. The body reads it in `Call::begin`.
    static AWAITED: Cell<bool> = const { Cell::new(false) };
    /// The call that the body then hands over.
    static BEGUN: Cell<Option<Box<Followed>>> = const { Cell::new(None) };
}

/// Whether the future that polls this body waits for its call.
#[inline(always)]
pub(crate) fn is_awaited() -> bool {
    AWAITED.with(Cell::get) && accepted()
}

#[cold]
#[inline(never)]
fn accepted() -> bool {
    AWAITED.replace(false)
}

/// Hands the call over to the future that polls the body.
pub(crate) fn begun(followed: Box<Followed>) {
    replaced(Some(followed));
}

fn replaced(followed: Option<Box<Followed>>) -> Option<Box<Followed>> {
    // The cell cannot be accessed while the thread is torn down. Nothing records then.
    BEGUN.try_with(|begun| begun.replace(followed)).ok().flatten()
}

/// Restores the call that was handed to an outer future, also in a panic.
struct Awaiting {
    above: Option<Box<Followed>>,
}

impl Awaiting {
    fn new() -> Self {
        AWAITED.set(true);
        Self { above: replaced(None) }
    }

    fn begun(mut self) -> Option<Box<Followed>> {
        let begun = self.put_back();
        std::mem::forget(self);
        begun
    }

    fn put_back(&mut self) -> Option<Box<Followed>> {
        // The body did not read it if it panicked before `Call::begin`.
        AWAITED.set(false);
        replaced(self.above.take())
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.put_back();
    }
}

/// The call that made a future: its site and its context.
#[derive(Debug)]
pub(crate) struct Followed {
    /// `None`: only what the future calls is recorded.
    site: Option<&'static CallSite>,
    /// The context of the call, in which its own record is made.
    call: TraceContext,
    /// The context of the body where it waits: it may be inside a loop whose passes are layers.
    context: TraceContext,
    number: u64,
}

impl Followed {
    /// Takes this thread's context as it is now.
    #[allow(clippy::unnecessary_box_returns)] // a box fits a register, the call itself would need memory
    pub(crate) fn here(site: Option<&'static CallSite>) -> Box<Self> {
        let context = TraceContext::current();
        Box::new(Self { site, call: context.clone(), context, number: next_number() })
    }

    #[cold]
    #[inline(never)]
    fn poll<F: Future<Output: Traced>>(&mut self, future: Pin<&mut F>, task: &mut Context<'_>) -> Poll<F::Output> {
        let _polled = Polled::begin(self.number);
        let _context = self.context.clone().enter();
        let poll = future.poll(task);
        self.after(&poll);
        poll
    }

    /// Records the value if it is ready. A future that waits keeps the context as its body left it.
    fn after<T: Traced>(&mut self, poll: &Poll<T>) {
        match (poll, self.site) {
            (Poll::Pending, _) => self.context = TraceContext::current(),
            (Poll::Ready(value), Some(site)) if may_record() => {
                self.call.in_scope(|| record_value(site.stage, Some(site), value));
            }
            (Poll::Ready(_), _) => {}
        }
    }
}
