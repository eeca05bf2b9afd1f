//! Refused at the attribute that does not fit.

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
