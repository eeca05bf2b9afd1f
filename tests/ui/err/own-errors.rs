//! The user's own mistakes are reported as without the attribute, at their place in the body.

use bitnet_trace::traced;
use candle_core::{Result, Tensor};

#[traced(stage = "mismatch")]
fn mismatch(x: &Tensor) -> Result<Tensor> {
    x.clone()
}

#[traced(stage = "early")]
fn early(x: &Tensor) -> Tensor {
    if x.rank() == 1 {
        return 3;
    }
    x.clone()
}

#[traced(stage = "no_question")]
fn no_question(x: &Tensor) -> Tensor {
    (x * 2.0)?
}

#[traced(stage = "moved")]
fn moved(x: Tensor) -> (Tensor, Tensor) {
    (x, x)
}

#[traced(stage = "unknown")]
async fn unknown(x: &Tensor) -> Result<Tensor> {
    x.neg()?.no_such_method()
}

#[traced(stage = "async_mismatch")]
async fn async_mismatch(x: &Tensor) -> Result<Tensor> {
    x.clone()
}

fn main() {
    let _ = (mismatch, early, no_question, moved, unknown, async_mismatch);
}
