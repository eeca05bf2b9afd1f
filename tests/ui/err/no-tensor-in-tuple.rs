//! An element that is neither a tensor nor plain.

use bitnet_trace::traced;
use candle_core::Tensor;

struct Scale;

#[traced(stage = "scaled")]
fn scaled(x: &Tensor) -> (Tensor, Scale) {
    (x.clone(), Scale)
}

fn main() {
    let _ = scaled;
}
