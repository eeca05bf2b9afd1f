//! A crate that forbids `unsafe` code, missing documentation and all other warnings.
#![forbid(unsafe_code)]
#![deny(missing_docs, warnings, unused, rust_2018_idioms, unreachable_pub, single_use_lifetimes)]
#![deny(elided_lifetimes_in_paths, unused_qualifications, unused_lifetimes, let_underscore_drop)]

use bitnet_trace::{Traced, traced};
use candle_core::{Result, Tensor};

/// Documented.
#[derive(Traced, Debug)]
pub struct Heads {
    /// Documented.
    pub q: Tensor,
}

#[traced(stage = "norm", layer = 3, seq = 4, inputs(x), when = x.rank() == 1, outputs("a", "b"))]
fn norm(x: &Tensor) -> Result<(Tensor, Tensor)> {
    Ok((x.neg()?, x.abs()?))
}

#[traced]
async fn later(x: &Tensor) -> Result<Heads> {
    Ok(Heads { q: x.neg()? })
}

#[traced]
fn plain(x: &Tensor) -> Tensor {
    x.clone()
}

fn main() {
    let x = Tensor::new(&[1f32], &candle_core::Device::Cpu).expect("a tensor");
    assert!(norm(&plain(&x)).is_ok());
    let _future = later(&x);
}
