//! A `Result` that holds no tensor, and the same with a scope.

use bitnet_trace::traced;
use candle_core::{Result, Tensor};

#[traced(stage = "length", layer = 3)]
fn length(x: &Tensor) -> Result<f32> {
    x.sum_all()?.to_scalar()
}

fn main() {
    let _ = length;
}
