//! The expansion uses no name that the user may have defined.
#![no_implicit_prelude]
#![allow(dead_code)]

extern crate std;

use ::bitnet_trace::{Traced, traced};
use ::candle_core::Tensor;
use ::std::clone::Clone;

mod core {}
mod bitnet_trace {}
mod candle_core {}
struct Option;
struct Result;
struct Some;
struct Ok;
struct Site;
trait Fn {}
trait FnOnce {}
type bool = usize;
type usize = u8;
type u32 = u8;
type str = u8;
const SITE: u8 = 0;
static LISTED: u8 = 0;
macro_rules! site {
    () => {};
}
macro_rules! line {
    () => {};
}

#[derive(Traced)]
struct Heads {
    q: Tensor,
    k: Tensor,
}

#[derive(Traced)]
enum Mask {
    Causal { visitor: Tensor, field_0: Tensor },
}

#[traced(stage = "q", layer = 3, seq = 4, inputs(site, visitor))]
fn q(site: &Tensor, visitor: Tensor) -> Heads {
    let _ = visitor;
    Heads { q: site.clone(), k: site.clone() }
}

#[traced]
async fn later(body: &Tensor) -> Tensor {
    let __ret = body.clone();
    __ret
}

fn main() {}
