//! The library without capture on a candle that is not the workspace's.

use bitnet_trace::{TraceContext, Traced, TracedModule, dump_trace, tap, traced};
use candle_core::{Device, Module, Result, Tensor};

#[derive(Traced)]
struct Output {
    y: Tensor,
}

#[traced(layer = layer, inputs(x))]
fn doubled(layer: usize, x: &Tensor) -> Result<Output> {
    Ok(Output { y: (x + layer as f64)? })
}

#[test]
fn the_attribute_and_the_functions_change_nothing() {
    let x = Tensor::new(&[1f32, 2.0], &Device::Cpu).expect("a tensor");
    let _step = TraceContext::seq(0).enter();
    let Output { y } = doubled(3, &x).expect("it runs");
    tap("tapped", &y);
    dump_trace("by_hand", &y).expect("nothing to record");
    let halved = TracedModule::new("halved", |x: &Tensor| x * 0.5).forward(&y).expect("it runs");
    assert_eq!(halved.to_vec1::<f32>().expect("f32"), [2.0, 2.5]);
}
