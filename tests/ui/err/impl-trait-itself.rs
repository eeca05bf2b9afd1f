//! A future without a named type cannot be recorded.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "later")]
fn later(x: &Tensor) -> impl Future<Output = Tensor> {
    std::future::ready(x.clone())
}

fn main() {
    let _ = later;
}
