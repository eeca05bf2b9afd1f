//! The error is at `const`; the function itself still resolves.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "first")]
const fn first(x: &[Tensor; 1]) -> &Tensor {
    &x[0]
}

fn main() {
    let _ = first;
}
