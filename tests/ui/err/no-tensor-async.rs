//! A future whose output holds no tensor.

use bitnet_trace::traced;
use candle_core::{Result, Tensor};

#[traced(stage = "length")]
async fn length(x: &Tensor) -> Result<f32> {
    x.sum_all()?.to_scalar()
}

fn main() {
    let _ = length;
}
