//! The function's attributes still warn its callers.
#![deny(unused_must_use, deprecated)]

use bitnet_trace::traced;
use candle_core::{Result, Tensor};

#[must_use]
#[traced(stage = "copy")]
fn copy(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "double")]
#[deprecated = "use `copy`"]
fn double(x: &Tensor) -> Result<Tensor> {
    x * 2.0
}

#[traced(stage = "later")]
async fn later(x: &Tensor) -> Tensor {
    x.clone()
}

fn main() {
    let x = Tensor::new(1f32, &candle_core::Device::Cpu).unwrap();
    copy(&x);
    double(&x);
    later(&x);
}
