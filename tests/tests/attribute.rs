//! The attribute on functions of every kind: each makes the right record once, in the right context, and
//! returns the same value.
#![allow(clippy::multiple_bound_locations, clippy::needless_return, clippy::unnecessary_box_returns)] // forms to be taken

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bitnet_trace::{Trace, TraceContext, TraceSession, tap, traced};
use bitnet_trace_tests::block_on;
use candle_core::{Device, Result, Tensor, bail};

fn x() -> Tensor {
    Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor")
}

/// The records of `f`.
fn trace(f: impl FnOnce()) -> Trace {
    let session = TraceSession::builder().in_memory().capture("values").start().expect("a session");
    session.in_scope(f);
    session.finish().expect("nothing lost")
}

fn names(f: impl FnOnce()) -> Vec<String> {
    trace(f).records().iter().map(|record| record.name.clone()).collect()
}

/// A future that is pending once, so that the code after it runs in a later poll.
struct Yield(bool);

impl Future for Yield {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Ready(());
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

#[traced]
fn plain(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "qkv", outputs("q", "k", "v"))]
fn qkv(x: &Tensor) -> Result<(Tensor, Option<Tensor>, Tensor, usize)> {
    Ok((x.clone(), None, x.clone(), 3))
}

#[traced(stage = "proj", inputs(x, pair))]
fn with_inputs(x: Tensor, pair: (Tensor, usize)) -> Result<Tensor> {
    if pair.1 == 0 {
        bail!("fails inside");
    }
    x + pair.0
}

#[traced(when = wanted)]
fn sometimes(x: &Tensor, wanted: bool) -> Tensor {
    x.clone()
}

#[traced(stage = "scoped", layer = layer, seq = seq, inputs(x))]
fn scoped(x: &Tensor, layer: Option<usize>, seq: i32) -> Tensor {
    tap("inside", x);
    x.clone()
}

struct Holder {
    tensor: Tensor,
}

impl Holder {
    #[traced]
    fn by_mut(&mut self) -> &mut Tensor {
        &mut self.tensor
    }

    #[traced(stage = "maybe")]
    fn maybe(&self, there: bool) -> Option<&Tensor> {
        if !there {
            return None;
        }
        Some(&self.tensor)
    }

    #[traced(stage = "taken")]
    fn take(self) -> Box<Tensor> {
        Box::new(self.tensor)
    }
}

trait Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor>;
}

impl Layer for Holder {
    #[traced(stage = "trait_forward")]
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let add = |y: &Tensor| -> Result<Tensor> { return &self.tensor + y };
        add(x)
    }
}

#[traced(stage = "map")]
fn map(x: &Tensor) -> BTreeMap<String, Arc<Tensor>> {
    ["v", "k"].into_iter().map(|key| (key.to_owned(), Arc::new(x.clone()))).collect()
}

#[traced(stage = "generic")]
fn generic<T: AsRef<str>, const N: usize>(_name: T, x: &Tensor) -> [Tensor; N]
where
    T: Clone,
{
    std::array::from_fn(|_| x.clone())
}

#[traced(stage = "raw")]
#[allow(improper_ctypes_definitions, unsafe_code)] // called from Rust alone
unsafe extern "C" fn raw(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "async_proj", layer = layer)]
async fn async_proj(x: &Tensor, layer: usize) -> Result<Tensor> {
    tap("before", x);
    Yield(false).await;
    tap("after", x);
    if layer == 9 {
        bail!("fails inside");
    }
    Ok(x.clone())
}

/// The form into which `#[async_trait]` turns an `async fn`.
#[traced(stage = "boxed")]
fn boxed<'a>(x: &'a Tensor) -> Pin<Box<dyn Future<Output = Result<Tensor>> + Send + 'a>> {
    Box::pin(async move {
        Yield(false).await;
        tap("in_box", x);
        Ok(x.clone())
    })
}

#[test]
fn functions_of_every_kind_record_once_under_their_name() {
    assert_eq!(names(|| drop(plain(&x()))), ["plain"]);
    assert_eq!(names(|| assert_eq!(Holder { tensor: x() }.by_mut().dims(), [2])), ["by_mut"]);
    assert_eq!(names(|| drop(Holder { tensor: x() }.maybe(true).cloned())), ["maybe"]);
    assert_eq!(names(|| drop(Holder { tensor: x() }.maybe(false).cloned())), Vec::<String>::new());
    assert_eq!(names(|| drop(Holder { tensor: x() }.take())), ["taken"]);
    assert_eq!(names(|| drop(Holder { tensor: x() }.forward(&x()))), ["trait_forward"]);
    assert_eq!(names(|| drop(map(&x()))), ["map.k", "map.v"]);
    assert_eq!(names(|| drop(generic::<_, 2>("name", &x()))), ["generic.0", "generic.1"]);
    // SAFETY of the call: the function only clones, which needs no precondition.
    #[allow(unsafe_code)]
    let raw = names(|| drop(unsafe { raw(&x()) }));
    assert_eq!(raw, ["raw"]);
}

#[test]
fn the_returned_value_is_the_very_one() {
    let given = x();
    let mut returned = None;
    trace(|| returned = Some(plain(&given)));
    assert_eq!(returned.map(|tensor| tensor.id()), Some(given.id()));
}

#[test]
fn outputs_name_positions() {
    let trace = trace(|| drop(qkv(&x())));
    let found: Vec<_> = trace.records().iter().map(|record| (record.name.as_str(), record.output.as_deref())).collect();
    assert_eq!(found, [("qkv.q", Some("q")), ("qkv.v", Some("v"))]);
    assert!(trace.records().iter().all(|record| record.stage.as_deref() == Some("qkv")));
}

#[test]
fn inputs_are_recorded_before_the_body_runs() {
    let found = trace(|| drop(with_inputs(x(), (x(), 1))));
    let found: Vec<_> =
        found.records().iter().map(|record| (record.name.clone(), record.io.clone(), record.output.clone())).collect();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        found,
        [
            ("proj.in.x".to_owned(), text("in"), text("x")),
            ("proj.in.pair.0".to_owned(), text("in"), text("pair.0")),
            ("proj".to_owned(), None, None),
        ]
    );
    // The inputs are recorded even if the body fails.
    assert_eq!(names(|| drop(with_inputs(x(), (x(), 0)))), ["proj.in.x", "proj.in.pair.0"]);
}

#[test]
fn a_condition_decides_call_by_call() {
    assert_eq!(names(|| (0..4).for_each(|i| drop(sometimes(&x(), i == 2)))), ["sometimes"]);
}

#[test]
fn a_scope_holds_inputs_body_and_result() {
    assert_eq!(names(|| drop(scoped(&x(), Some(4), 2))), ["t2/blk4/scoped.in.x", "t2/blk4/inside", "t2/blk4/scoped"]);
    // `None` and negative numbers leave the outer scope unchanged.
    let inherited = names(|| {
        let _outer = TraceContext::seq(7).with_layer(1).enter();
        drop(scoped(&x(), None, -1));
    });
    assert_eq!(inherited, ["t7/blk1/scoped.in.x", "t7/blk1/inside", "t7/blk1/scoped"]);
}

#[test]
fn an_async_function_takes_its_context_at_the_first_poll_and_keeps_it() {
    let names = names(|| {
        let x = x();
        // The future is made outside the scope and first polled inside it.
        let (first, second) = (async_proj(&x, 0), async_proj(&x, 1));
        let both = async {
            let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
            let mut done = (false, false);
            // The two are polled in turn, as by a runtime.
            std::future::poll_fn(|task| {
                done.0 = done.0 || first.as_mut().poll(task).is_ready();
                done.1 = done.1 || second.as_mut().poll(task).is_ready();
                if done == (true, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        };
        let _step = TraceContext::seq(3).enter();
        block_on(both);
    });
    assert_eq!(
        names,
        [
            "t3/blk0/before",
            "t3/blk1/before",
            "t3/blk0/after",
            "t3/blk0/async_proj",
            "t3/blk1/after",
            "t3/blk1/async_proj"
        ]
    );
}

#[test]
fn a_future_that_fails_or_is_dropped_records_nothing_of_its_own() {
    assert_eq!(names(|| drop(block_on(async_proj(&x(), 9)))), ["blk9/before", "blk9/after"]);
    assert_eq!(names(|| drop(async_proj(&x(), 0))), Vec::<String>::new());
}

#[test]
fn a_boxed_future_takes_its_context_when_it_is_made() {
    let names = names(|| {
        let x = x();
        let future = {
            let _layer = TraceContext::layer(5).enter();
            boxed(&x)
        };
        let _other = TraceContext::layer(6).enter();
        drop(block_on(future));
    });
    assert_eq!(names, ["blk5/in_box", "blk5/boxed"]);
}

#[traced(stage = "boxed_if", layer = 7, when = wanted)]
fn boxed_if<'a>(x: &'a Tensor, wanted: bool) -> Pin<Box<dyn Future<Output = Result<Tensor>> + 'a>> {
    tap("making", x);
    Box::pin(async move {
        Yield(false).await;
        tap("in_box", x);
        Ok(x.clone())
    })
}

#[test]
fn a_boxed_future_that_is_not_recorded_keeps_its_scope() {
    let made = |wanted| {
        names(|| {
            let x = x();
            let future = {
                let _step = TraceContext::seq(2).enter();
                boxed_if(&x, wanted)
            };
            let _other = TraceContext::layer(1).enter();
            drop(block_on(future));
        })
    };
    assert_eq!(made(true), ["t2/blk7/making", "t2/blk7/in_box", "t2/blk7/boxed_if"]);
    assert_eq!(made(false), ["t2/blk7/making", "t2/blk7/in_box"]);
}

#[traced(when = false)]
fn never_wanted(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "cancelled")]
async fn cancelled(x: &Tensor) -> Tensor {
    std::future::pending::<()>().await;
    x.clone()
}

#[traced(stage = "panics")]
fn panics(x: &Tensor) -> Tensor {
    panic!("{x}")
}

#[traced(stage = "not_called")]
#[allow(dead_code)]
fn not_called(x: &Tensor) -> Tensor {
    x.clone()
}

#[test]
fn what_was_called_counts_as_called_whether_or_not_it_was_recorded() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let session = TraceSession::builder().dir(directory.path()).start().expect("a session");
    session.in_scope(|| {
        let x = x();
        drop(never_wanted(&x));
        drop(boxed_if(&x, false));
        let mut task = Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(cancelled(&x)).poll(&mut task).is_pending());
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panics(&x))).is_err());
    });
    session.finish().expect("nothing lost");
    bitnet_trace::flush();
    let manifest = bitnet_trace_tests::manifest(directory.path());
    let unreached = manifest["unreached"].as_array().expect("a list");
    let unreached = |function: &str| unreached.iter().any(|site| site["function"] == function);
    for function in ["never_wanted", "boxed_if", "cancelled", "panics"] {
        assert!(!unreached(function), "{function}");
    }
    assert!(unreached("not_called"));
}

#[test]
fn an_instrumented_future_keeps_its_context_on_other_threads() {
    let trace = trace(|| {
        let threads: Vec<_> = (0..8)
            .map(|layer| {
                let here = {
                    let _layer = TraceContext::layer(layer).enter();
                    TraceContext::current()
                };
                std::thread::spawn(move || {
                    block_on(here.instrument(async {
                        Yield(false).await;
                        plain(&x())
                    }))
                })
            })
            .collect();
        for thread in threads {
            drop(thread.join());
        }
    });
    let mut layers: Vec<_> = trace.records().iter().map(|record| record.layer_idx).collect();
    layers.sort_unstable();
    assert_eq!(layers, (0..8).map(Some).collect::<Vec<_>>());
}
