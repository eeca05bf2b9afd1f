//! The error underlines the return type that holds no tensor.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "length")]
fn length(x: &Tensor) -> usize {
    x.elem_count()
}

fn main() {
    let _ = length;
}
