//! The error about a future that is not `Send` names the line that causes it.

use std::rc::Rc;

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "later")]
async fn later(x: &Tensor) -> Tensor {
    let counted = Rc::new(3);
    std::future::ready(()).await;
    drop(counted);
    x.clone()
}

fn needs_send<T: Send>(_: T) {}

fn main() {
    let x = Tensor::new(1f32, &candle_core::Device::Cpu).unwrap();
    needs_send(later(&x));
}
