//! Futures that begin while nothing records. This is a process of its own with one test: the sessions of other
//! tests would record.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bitnet_trace::{TraceContext, TraceSession, tap, traced};
use bitnet_trace_tests::block_on;
use candle_core::{Device, Tensor};

/// A future that is pending once.
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

#[traced(layer = layer)]
async fn projected(x: &Tensor, layer: usize) -> Tensor {
    tap("before", x);
    Yield(false).await;
    tap("after", x);
    x.clone()
}

#[traced(layer = 9)]
fn boxed(x: &Tensor) -> Pin<Box<dyn Future<Output = Tensor> + Send + '_>> {
    Box::pin(async move {
        tap("in_box", x);
        x.clone()
    })
}

#[test]
fn a_future_that_began_while_nothing_recorded_is_not_followed_later() {
    let x = Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor");
    // The very first call finds out that no variable asks for a trace.
    drop(plain(&x));
    let boxed = boxed(&x);
    let mut started = Box::pin(projected(&x, 3));
    assert!(started.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let created = projected(&x, 4);

    let session = TraceSession::builder().in_memory().start().expect("a session");
    session.in_scope(|| {
        let _step = TraceContext::seq(1).enter();
        drop(block_on(boxed));
        drop(block_on(started));
        drop(block_on(created));
    });
    let trace = session.finish().expect("nothing lost");
    let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
    // The functions that the first two call are recorded in the scope in which they run. The third begins only now.
    assert_eq!(names, ["t1/in_box", "t1/after", "t1/blk4/before", "t1/blk4/after", "t1/blk4/projected"]);
}
