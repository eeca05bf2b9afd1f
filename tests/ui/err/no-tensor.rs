//! A return type without a tensor is underlined itself.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "length")]
fn length(x: &Tensor) -> usize {
    x.elem_count()
}

fn main() {
    let _ = length;
}
