//! The error underlines the field that is neither a tensor nor plain.

use bitnet_trace::Traced;
use candle_core::{DType, Tensor};

#[derive(Traced)]
struct Heads {
    q: Tensor,
    dtype: DType,
}

#[derive(Traced)]
enum Mask {
    Causal(Tensor, DType),
}

#[derive(Traced)]
struct Generic<T>(T);

fn bounded<T: Traced>() {}

fn main() {
    bounded::<Generic<Heads>>();
    bounded::<Generic<DType>>();
    let _ = Mask::Causal;
}
