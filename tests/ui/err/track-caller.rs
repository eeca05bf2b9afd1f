//! The error is at the attribute that cannot be combined.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "copy")]
#[track_caller]
fn copy(x: &Tensor) -> Tensor {
    x.clone()
}

fn main() {
    let _ = copy;
}
