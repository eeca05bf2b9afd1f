//! The attribute rewrites an annotated `async fn`. It still behaves like a plain one, with its arguments, in
//! traits and in recursion, and it records in its context.

use std::cell::RefCell;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bitnet_trace::{TraceContext, TraceSession, tap, traced};
use bitnet_trace_tests::block_on;
use candle_core::{Device, Result, Tensor};

fn x() -> Tensor {
    Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor")
}

fn names(f: impl FnOnce()) -> Vec<String> {
    let session = TraceSession::builder().in_memory().start().expect("a session");
    session.in_scope(f);
    let trace = session.finish().expect("nothing lost");
    trace.records().iter().map(|record| record.name.clone()).collect()
}

/// A future that is pending once, so that the code after it runs in a later poll.
async fn later() {
    let mut polled = false;
    std::future::poll_fn(|task| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

type Log = Rc<RefCell<Vec<&'static str>>>;

/// Notes when it is dropped.
struct Noted(&'static str, Log);

impl Drop for Noted {
    fn drop(&mut self) {
        self.1.borrow_mut().push(self.0);
    }
}

impl Noted {
    fn say(&self, what: &'static str) {
        self.1.borrow_mut().push(what);
    }
}

struct Pair {
    used: Noted,
    #[allow(dead_code)] // dropped
    unused: Noted,
}

/// The same functions with the attribute and without.
macro_rules! functions {
    ($module:ident $(, $traced:meta)?) => {
        mod $module {
            use super::*;

            $(#[$traced])?
            #[allow(unused_variables, unused_mut)]
            pub(super) async fn free(unused: Noted, mut mutable: Noted, used: Noted, x: &Tensor) -> Tensor {
                let local = Noted("local", used.1.clone());
                used.say("body");
                later().await;
                used.say("later");
                x.clone()
            }

            $(#[$traced])?
            #[allow(unused_variables)]
            pub(super) async fn moved(unused: Noted, taken: Noted, x: &Tensor) -> Result<Tensor> {
                drop(taken);
                let y = (x * 2.0)?;
                if unused.0 != "other" {
                    return Ok(y);
                }
                later().await;
                Ok(y)
            }

            $(#[$traced])?
            #[allow(unused_variables)]
            pub(super) async fn patterns(_: Noted, (a, _): (Noted, Noted), _named: Noted, x: &Tensor) -> Tensor {
                later().await;
                x.clone()
            }

            impl Pair {
                $(#[$traced])?
                #[allow(unused_variables)]
                pub(super) async fn $module(self, x: Tensor, other: Noted) -> Tensor {
                    self.used.say("body");
                    later().await;
                    x
                }
            }

            pub(super) fn log(polls: usize) -> Vec<&'static str> {
                let log = Log::default();
                let note = |name| Noted(name, log.clone());
                let say = |what| log.borrow_mut().push(what);
                let x = x();
                {
                    let future = free(note("unused"), note("mutable"), note("used"), &x);
                    say("called");
                    run(future, polls);
                    say("moved");
                    run(moved(note("unused"), note("taken"), &x), polls);
                    say("patterns");
                    run(patterns(note("_"), (note("a"), note("b")), note("_named"), &x), polls);
                    say("self");
                    let pair = Pair { used: note("self.used"), unused: note("self.unused") };
                    let future = pair.$module(x.clone(), note("other"));
                    say("called");
                    run(future, polls);
                }
                log.take()
            }
        }
    };
}

fn run(future: impl Future, polls: usize) {
    let mut future = pin!(future);
    for _ in 0..polls {
        if poll(future.as_mut()).is_ready() {
            break;
        }
    }
}

functions!(plain);
functions!(annotated, traced);
functions!(set, traced(layer = 1, seq = 2));

#[test]
fn arguments_are_dropped_when_and_in_the_order_in_which_an_async_fn_drops_them() {
    for polls in 0..=2 {
        let plain = plain::log(polls);
        assert_eq!(annotated::log(polls), plain, "{polls} polls, not recorded");
        assert_eq!(set::log(polls), plain, "{polls} polls, not recorded");
        let names = names(|| {
            assert_eq!(annotated::log(polls), plain, "{polls} polls, recorded");
            assert_eq!(set::log(polls), plain, "{polls} polls, recorded");
        });
        assert_eq!(names.len(), [0, 2, 8][polls], "{names:?}");
    }
}

#[traced(layer = note(log, "layer", 3), seq = note(log, "seq", 4), when = note(log, "when", true), inputs(x))]
async fn noted(x: Tensor, log: &Log) -> Tensor {
    log.borrow_mut().push("body");
    tap("inside", &x);
    later().await;
    tap("after", &x);
    x
}

fn note<T>(log: &Log, what: &'static str, value: T) -> T {
    log.borrow_mut().push(what);
    value
}

#[test]
fn settings_are_evaluated_at_the_first_poll_before_the_body() {
    let once = |log: &Log| {
        let mut future = pin!(noted(x(), log));
        assert_eq!(log.take(), [""; 0]);
        assert!(poll(future.as_mut()).is_pending());
        assert_eq!(TraceContext::current().layer, None);
        assert_eq!(log.take(), ["layer", "seq", "when", "body"]);
        assert!(poll(future.as_mut()).is_ready());
        assert_eq!(log.take(), [""; 0]);
    };
    let log = Log::default();
    once(&log);
    assert_eq!(names(|| once(&log)), ["t4/blk3/noted.in.x", "t4/blk3/inside", "t4/blk3/after", "t4/blk3/noted"]);
}

#[traced(layer = block_on(inner(x, 5)).rank() + 1, inputs(x))]
async fn outer(x: &Tensor) -> Tensor {
    later().await;
    inner(x, 6).await
}

#[traced(layer = layer)]
async fn inner(x: &Tensor, layer: usize) -> Tensor {
    later().await;
    x.clone()
}

#[test]
fn futures_inside_settings_and_bodies_keep_their_own_context() {
    assert_eq!(names(|| drop(block_on(outer(&x())))), ["blk5/inner", "blk2/outer.in.x", "blk6/inner", "blk2/outer"]);
}

#[traced(layer = if fails { panic!("in a setting") } else { 1 })]
async fn setting_fails(x: &Tensor, fails: bool) -> Tensor {
    x.clone()
}

#[traced(layer = 2)]
async fn body_fails(x: &Tensor, polls: usize) -> Tensor {
    for _ in 0..polls {
        later().await;
    }
    panic!("in the body of {x}")
}

#[test]
fn a_panic_leaves_the_context_and_other_futures_as_they_were() {
    let caught = |future: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(future)).is_err();
    let names = names(|| {
        let x = x();
        let _step = TraceContext::seq(7).enter();
        let mut waits = pin!(inner(&x, 3));
        assert!(poll(waits.as_mut()).is_pending());
        assert!(caught(&|| drop(block_on(setting_fails(&x, true)))));
        assert!(caught(&|| drop(block_on(body_fails(&x, 0)))));
        assert!(caught(&|| drop(block_on(body_fails(&x, 1)))));
        assert_eq!((TraceContext::current().seq, TraceContext::current().layer), (Some(7), None));
        drop(block_on(setting_fails(&x, false)));
        assert!(poll(waits.as_mut()).is_ready());
    });
    assert_eq!(names, ["t7/blk1/setting_fails", "t7/blk3/inner"]);
}

#[test]
fn a_future_in_the_place_of_one_that_was_dropped_has_its_own_context() {
    let names = names(|| {
        let x = x();
        let mut place = Box::pin(inner(&x, 0));
        for layer in 1..5 {
            assert!(poll(place.as_mut()).is_pending());
            place.set(inner(&x, layer));
        }
        drop(block_on(place));
    });
    assert_eq!(names, ["blk4/inner"]);
}

#[test]
fn a_future_outlives_its_session_and_records_nowhere() {
    let other = TraceSession::builder().in_memory().start().expect("a session");
    let x = x();
    let mut future = Box::pin(inner(&x, 3));
    let names = names(|| assert!(poll(future.as_mut()).is_pending()));
    assert_eq!(names, [""; 0]);
    assert!(other.in_scope(|| poll(future.as_mut()).is_ready()));
    assert!(other.finish().expect("nothing lost").records().is_empty());
}

trait Forward {
    async fn forward(&self, x: &Tensor) -> Result<Tensor>;

    #[traced(stage = "default", layer = 2)]
    async fn twice(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.forward(x).await?;
        self.forward(&y).await
    }
}

impl Forward for f64 {
    #[traced(stage = "forward")]
    async fn forward(&self, x: &Tensor) -> Result<Tensor> {
        later().await;
        x * *self
    }
}

struct Negated<T>(Arc<T>);

impl<T: Forward> Forward for Negated<T> {
    #[traced]
    async fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.0.forward(x).await?.neg()
    }

    #[traced]
    async fn twice(&self, x: &Tensor) -> Result<Tensor> {
        self.0.twice(x).await
    }
}

#[test]
fn trait_functions() {
    let found = names(|| drop(block_on(2.0.twice(&x()))));
    assert_eq!(found, ["blk2/forward", "blk2/forward#1", "blk2/default"]);
    let found = names(|| drop(block_on(Negated(Arc::new(2.0)).forward(&x()))));
    assert_eq!(found, ["forward", "forward#1"]);
}

#[traced]
async fn countdown(x: &Tensor, count: usize) -> Result<Tensor> {
    if count == 0 {
        return Ok(x.clone());
    }
    Box::pin(countdown(x, count - 1)).await
}

#[traced(stage = "raw")]
#[allow(unsafe_code)]
async unsafe fn raw(x: *const Tensor) -> Tensor {
    unsafe { (*x).clone() }
}

#[test]
fn recursion_and_unsafe() {
    fn send<T: Send>(value: T) -> T {
        value
    }
    let x = x();
    assert_eq!(names(|| drop(block_on(send(countdown(&x, 2))))).len(), 3);
    // SAFETY of the call: the tensor lives until the end of the test.
    #[allow(unsafe_code)]
    let found = names(|| drop(block_on(unsafe { raw(&raw const x) })));
    assert_eq!(found, ["raw"]);
}
