//! Each mistake is reported at its own place, and nowhere else.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stgae = "norm")]
fn near(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(colour = "red")]
fn far(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "a", stage = "b")]
fn twice(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = 3)]
fn number(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "")]
fn empty(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced("norm")]
fn positional(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage)]
fn without_value(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(outputs = "q")]
fn outputs(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(inputs("x"))]
fn inputs(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "a" layer = 1)]
fn comma(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(layer = )]
fn half_typed(x: &Tensor) -> Tensor {
    x.clone()
}

fn main() {
    let _ = (near, far, twice, number, empty, positional, without_value, outputs, inputs, comma, half_typed);
}
