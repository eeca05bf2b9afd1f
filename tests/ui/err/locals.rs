//! `locals` and `layers` that name what the body does not have, or what holds no tensor.

use bitnet_trace::traced;
use candle_core::{Result, Tensor};

#[traced(locals(nope))]
fn no_such_variable(x: &Tensor) -> Result<Tensor> {
    let y = x.neg()?;
    y.abs()
}

#[traced(locals(size as "the_size", y))]
fn no_tensor(x: &Tensor) -> Result<Tensor> {
    let size = x.elem_count();
    let y = x.reshape(size)?;
    y.abs()
}

#[traced(locals(y as "first", y as "second"))]
fn once(x: &Tensor) -> Result<Tensor> {
    let y = x.neg()?;
    y.abs()
}

#[traced(locals(y as z))]
fn as_a_name(x: &Tensor) -> Result<Tensor> {
    let y = x.neg()?;
    y.abs()
}

#[traced(layers(layer))]
fn no_such_loop(x: &Tensor, layers: &[Tensor]) -> Result<Tensor> {
    layers.iter().try_fold(x.clone(), |x, layer| x + layer)
}

#[traced(locals = true)]
fn value(x: &Tensor) -> Result<Tensor> {
    x.neg()
}

fn main() {
    let _ = (no_such_variable, no_tensor, once, as_a_name, no_such_loop, value);
}
