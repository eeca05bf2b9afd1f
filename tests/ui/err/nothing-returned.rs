//! The error has a hint; the function itself still resolves.

use bitnet_trace::traced;
use candle_core::Tensor;

#[traced(stage = "nothing")]
fn nothing(x: &Tensor) {
    drop(x.clone());
}

fn main() {
    let _ = nothing;
}
