//! A future that is not named cannot be put in a record.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "later")]
fn later(x: &Tensor) -> impl Future<Output = Tensor> {
    std::future::ready(x.clone())
}

fn main() {
    let _ = later;
}
