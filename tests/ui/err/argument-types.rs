//! Expressions of the wrong type, and inputs that are not arguments or hold no tensor.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(layer = "three")]
fn layer(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(when = 1)]
fn condition(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(inputs(x, position))]
fn plain_input(x: &Tensor, position: usize) -> Tensor {
    let _ = position;
    x.clone()
}

#[traced(inputs(y))]
fn no_argument(x: &Tensor) -> Tensor {
    x.clone()
}

fn main() {
    let _ = (layer, condition, plain_input, no_argument);
}
