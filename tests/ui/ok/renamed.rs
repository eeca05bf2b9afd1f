//! The library under another name, and reached through another crate's re-export.

extern crate bitnet_trace as renamed;

mod facade {
    pub mod inner {
        pub use ::bitnet_trace;
    }
}

use candle_core::Tensor;
use renamed::{Traced, traced};

#[derive(Traced)]
#[traced(crate = facade::inner::bitnet_trace)]
struct Heads {
    q: Tensor,
}

#[traced(crate = facade::inner::bitnet_trace, stage = "heads", layer = 1)]
fn heads(x: &Tensor) -> Heads {
    Heads { q: x.clone() }
}

#[traced(crate = crate::renamed)]
fn plain(x: &Tensor) -> Tensor {
    x.clone()
}

fn main() {
    let x = Tensor::new(1f32, &candle_core::Device::Cpu).unwrap();
    assert_eq!(heads(&plain(&x)).q.id(), x.id());
}
