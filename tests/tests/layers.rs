//! `#[traced(layers(..))]`: the passes of a loop are layers, in functions and in futures.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bitnet_trace::{Trace, TraceContext, TraceRecord, TraceSession, tap, traced};
use bitnet_trace_tests::block_on;
use candle_core::{Device, Result, Tensor};

fn tensor() -> Tensor {
    Tensor::new(&[3f32, -4.0], &Device::Cpu).expect("a tensor")
}

fn recorded<R>(run: impl FnOnce() -> R) -> (R, Trace) {
    let session = TraceSession::builder().in_memory().start().expect("a session");
    let value = session.in_scope(run);
    (value, session.finish().expect("nothing lost"))
}

fn names(trace: &Trace) -> Vec<&str> {
    trace.records().iter().map(|record| record.name.as_str()).collect()
}

fn names_of<R>(run: impl FnOnce() -> R) -> Vec<String> {
    names(&recorded(run).1).into_iter().map(str::to_owned).collect()
}

struct Model {
    layers: Vec<f64>,
    heads: usize,
}

impl Model {
    #[traced(stage = "model", layers(layer), locals)]
    fn forward(&self, x: &Tensor, stop: usize) -> Result<Tensor> {
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            if index == 0 {
                continue;
            }
            if index == stop {
                break;
            }
            if *layer < 0.0 {
                candle_core::bail!("a layer of {layer}");
            }
            let y = (&x * *layer)?;
            x = self.inner(&y)?;
        }
        let last = x.neg()?;
        Ok(last)
    }

    #[traced(layers(head))]
    fn inner(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for head in 0..self.heads {
            x = (x + f64::from(u32::try_from(head)?))?;
            tap("head", &x);
        }
        Ok(x)
    }
}

#[test]
fn each_pass_of_the_loop_is_a_layer() {
    let model = Model { layers: vec![1.0, 2.0, 3.0, 4.0], heads: 0 };
    assert_eq!(
        names_of(|| model.forward(&tensor(), 3)),
        [
            "model.let.x",
            "blk1/model.let.y",
            "blk1/inner",
            "blk1/model.let.x.2",
            "blk2/model.let.y",
            "blk2/inner",
            "blk2/model.let.x.2",
            "model.let.last",
            "model",
        ]
    );
}

#[test]
fn loops_nest_and_restore_the_layer_that_they_found() {
    let model = Model { layers: vec![1.0, 2.0, -1.0], heads: 2 };
    let ((), trace) = recorded(|| {
        let _scope = TraceContext::layer(9).enter();
        assert!(model.forward(&tensor(), 3).is_err());
        tap("after", &tensor());
    });
    assert_eq!(
        names(&trace),
        [
            "blk9/model.let.x",
            "blk1/model.let.y",
            "blk0/head",
            "blk1/head",
            "blk1/inner",
            "blk1/model.let.x.2",
            "blk9/after"
        ]
    );
}

/// A future that is pending once.
#[derive(Default)]
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

#[traced(stage = "stack", layers(layer), locals)]
async fn stack(x: &Tensor, layers: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for layer in 0..layers {
        let before = (&x + f64::from(u32::try_from(layer)?))?;
        Yield::default().await;
        x = before.neg()?;
    }
    Ok(x)
}

#[traced(stage = "boxed", layers(layer), locals, seq = 4)]
fn boxed(x: &Tensor) -> Pin<Box<dyn Future<Output = Result<Tensor>> + Send + '_>> {
    Box::pin(async move {
        let mut y = x.clone();
        for layer in [0.5, 2.0] {
            Yield::default().await;
            y = (y * layer)?;
        }
        Ok(y)
    })
}

#[traced(stage = "tail", layers(layer), locals, seq = 2)]
async fn with_settings((x, _): (&Tensor, usize)) -> Result<Tensor> {
    let mut x = x.clone();
    for layer in 0..2 {
        Yield::default().await;
        x = (x + f64::from(layer))?;
    }
    Ok(x)
}

#[test]
fn a_future_keeps_its_layer_while_it_waits() {
    const fn is_send<T: Send>(_: &T) {}
    let x = tensor();
    let ((), trace) = recorded(|| {
        let (mut one, mut two) = (Box::pin(stack(&x, 2)), Box::pin(with_settings((&x, 0))));
        is_send(&one);
        is_send(&two);
        let mut task = Context::from_waker(Waker::noop());
        // They take turns.
        assert!(one.as_mut().poll(&mut task).is_pending());
        assert!(two.as_mut().poll(&mut task).is_pending());
        tap("between", &x);
        assert!(one.as_mut().poll(&mut task).is_pending());
        assert!(two.as_mut().poll(&mut task).is_pending());
        assert!(one.as_mut().poll(&mut task).is_ready());
        assert!(two.as_mut().poll(&mut task).is_ready());
        tap("after", &x);
    });
    assert_eq!(
        names(&trace),
        [
            "stack.let.x",
            "blk0/stack.let.before",
            "t2/tail.let.x",
            "between",
            "blk0/stack.let.x.2",
            "blk1/stack.let.before",
            "t2/blk0/tail.let.x.2",
            "blk1/stack.let.x.2",
            "stack",
            "t2/blk1/tail.let.x.2",
            "t2/tail",
            "after",
        ]
    );
    let boxed = names_of(|| block_on(boxed(&x)));
    assert_eq!(boxed, ["t4/boxed.let.y", "t4/blk0/boxed.let.y.2", "t4/blk1/boxed.let.y.2", "t4/boxed"]);
}

#[async_trait::async_trait]
trait Decoder {
    async fn step(&self, x: Tensor) -> Result<Tensor>;
}

struct Remote {
    scales: [f64; 2],
}

#[async_trait::async_trait]
impl Decoder for Remote {
    #[traced(stage = "step", layers(scale), locals)]
    async fn step(&self, x: Tensor) -> Result<Tensor> {
        let mut x = x.neg()?;
        for scale in self.scales {
            Yield::default().await;
            x = (x * scale)?;
        }
        Ok(x)
    }
}

#[test]
fn what_async_trait_binds_is_not_recorded() {
    assert_eq!(
        names_of(|| block_on(Remote { scales: [1.0, 2.0] }.step(tensor()))),
        ["step.let.x", "blk0/step.let.x.2", "blk1/step.let.x.2", "step"]
    );
}

#[test]
fn a_future_that_is_dropped_inside_its_loop_leaves_the_layer_of_others_alone() {
    let x = tensor();
    let layers = |trace: &Trace| trace.records().iter().map(|record: &TraceRecord| record.layer_idx).next_back();
    let ((), trace) = recorded(|| {
        let mut waiting = Box::pin(stack(&x, 2));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        // The same number as that of the pass in which the future waits.
        let _layer = TraceContext::layer(0).enter();
        drop(waiting);
        tap("after", &x);
    });
    assert_eq!(layers(&trace), Some(Some(0)));
}

impl Model {
    #[traced(stage = "reset", layers(layer))]
    fn reset_on_the_way(&mut self, x: &Tensor) -> Result<Tensor> {
        for layer in &mut self.layers {
            if *layer < 0.0 {
                self.layers.clear();
                return x.neg();
            }
            tap("pass", x);
        }
        Ok(x.clone())
    }
}

#[test]
fn a_loop_may_be_left_by_changing_what_it_went_over() {
    let mut model = Model { layers: vec![1.0, -1.0, 2.0], heads: 0 };
    assert_eq!(names_of(|| model.reset_on_the_way(&tensor())), ["blk0/pass", "reset"]);
    assert!(model.layers.is_empty());
}

/// Polls two futures in turn.
async fn both<A: Future, B: Future>(one: A, two: B) -> (A::Output, B::Output) {
    let (mut one, mut two) = (Box::pin(one), Box::pin(two));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|task| {
        if first.is_none()
            && let Poll::Ready(value) = one.as_mut().poll(task)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = two.as_mut().poll(task)
        {
            second = Some(value);
        }
        if first.is_some() && second.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (first.expect("it is ready"), second.expect("it is ready"))
}

#[traced(stage = "model", layers(layer), locals)]
async fn at_once(x: &Tensor) -> Result<Tensor> {
    let run = |passes: usize| async move {
        let mut y = x.clone();
        for layer in 0..passes {
            let _: usize = layer;
            Yield::default().await;
            y = y.neg()?;
        }
        Ok::<_, candle_core::Error>(y)
    };
    let idle = async {
        Yield::default().await;
        tap("idle", x);
        Yield::default().await;
    };
    let ((one, two), ()) = both(both(run(1), run(2)), idle).await;
    let after = (one? + two?)?;
    Ok(after)
}

#[test]
fn blocks_that_run_at_once_have_layers_of_their_own() {
    let mut names = names_of(|| block_on(at_once(&tensor())));
    let last = names.split_off(names.len() - 2);
    assert_eq!(last, ["model.let.after", "model"]);
    names.sort_unstable();
    assert_eq!(
        names,
        ["blk0/model.let.y.2", "blk0/model.let.y.2#1", "blk1/model.let.y.2", "idle", "model.let.y", "model.let.y#1"]
    );
}
