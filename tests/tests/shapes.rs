//! Calls every function of the fixture `every_shape`: each makes the right records once, in the right context,
//! and returns the same value.
#![allow(clippy::all, clippy::pedantic)] // the fixture shows forms, not taste

#[path = "../fixtures/every_shape/lib.rs"]
#[allow(missing_docs, unsafe_code, unreachable_pub)]
mod every_shape;

use bitnet_trace::{TraceContext, TraceSession};
use bitnet_trace_tests::block_on;
use candle_core::{Device, Tensor};
use every_shape::{Decoder, Encoder, Layer, Norm};

fn x() -> Tensor {
    Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor")
}

fn layer() -> Layer {
    Layer { index: 5, weight: x(), debug: true }
}

/// The records of `f`, and what it returned.
fn traced<R>(f: impl FnOnce() -> R) -> (Vec<String>, R) {
    let session = TraceSession::builder().in_memory().start().expect("a session");
    let returned = session.in_scope(f);
    let trace = session.finish().expect("nothing lost");
    (trace.records().iter().map(|record| record.name.clone()).collect(), returned)
}

fn names<R>(f: impl FnOnce() -> R) -> Vec<String> {
    traced(f).0
}

#[test]
fn methods() {
    assert_eq!(names(|| layer().proj(&x())), ["proj"]);
    assert_eq!(names(|| layer().forward(x())), ["blk5/proj", "blk5/block_out"]);
    assert_eq!(names(|| layer().weight().dims().len()), ["weight"]);
    assert_eq!(names(|| layer().weight_if(true).is_some()), ["weight_if"]);
    assert_eq!(names(|| layer().weight_if(false).is_some()), [""; 0]);
    assert_eq!(names(|| Layer { debug: false, ..layer() }.weight_if(true).is_some()), [""; 0]);
    assert_eq!(names(|| layer().both(&x()).0.dims().len()), ["both.0", "both.1"]);
    assert_eq!(names(|| layer().take()), ["taken"]);
    assert_eq!(names(|| Box::new(layer()).take_boxed()), ["boxed_self"]);
    assert_eq!(names(|| layer().normed(&x())), ["default_method"]);
    assert_eq!(names(|| layer().scaled(&x())), ["blk5/trait_method"]);
}

#[test]
fn functions() {
    assert_eq!(names(|| every_shape::logits(&x(), 3)), ["t3/logits"]);
    assert_eq!(names(|| every_shape::split_two([x(), x()])), ["t3/split.0", "t3/split.1.0", "t3/split.1.1"]);
    assert_eq!(names(|| every_shape::split([])), [""; 0]);
    assert_eq!(names(|| every_shape::qkv(&x(), 1)), ["qkv.in.x", "qkv.q", "qkv.k"]);
    assert_eq!(names(|| every_shape::qkv(&x(), 0)), [""; 0]);
    assert_eq!(names(|| every_shape::generic_one(&x())), ["generic"]);
    let destructured = names(|| every_shape::destructured((x(), x()), [&x(), &x()], 3));
    assert_eq!(destructured, ["destructured.in.a", "destructured"]);
    assert_eq!(names(|| every_shape::hidden(&x())), ["hidden"]);
    assert_eq!(names(|| every_shape::coerced(&x(), false).is_ok()), ["coerced"]);
    assert_eq!(names(|| every_shape::coerced(&x(), true).is_ok()), [""; 0]);
    assert_eq!(names(|| every_shape::bailed(&x(), false)), ["bailed"]);
    assert_eq!(names(|| every_shape::bailed(&x(), true)), [""; 0]);
    assert_eq!(names(|| every_shape::inner_attributes(&x())), ["inner"]);
    assert_eq!(names(|| every_shape::nested(&x())), ["nested_inside", "nested"]);
    // SAFETY: the function only clones.
    #[allow(unsafe_code)]
    let unsafe_extern = names(|| unsafe { every_shape::unsafe_extern(&x()) });
    assert_eq!(unsafe_extern, ["unsafe_extern"]);
    assert_eq!(names(|| every_shape::r#final(&x())), ["final"]);
    assert_eq!(names(|| every_shape::from_macro(&x())), ["blk4/from_macro"]);
}

#[test]
fn futures() {
    let x = x();
    assert_eq!(names(|| block_on(every_shape::later(&x, 2))), ["t1/blk2/later.in.x", "t1/blk2/later"]);
    // The input was recorded before the body failed.
    assert_eq!(names(|| block_on(every_shape::later(&x, 9))), ["t1/blk9/later.in.x"]);
    assert_eq!(names(|| block_on(every_shape::begin(&x, 2))), ["t1/blk2/later.in.x", "t1/blk2/later"]);
    assert_eq!(names(|| block_on(layer().async_mut((0, x.clone()))).is_ok()), ["async_mut"]);
    assert_eq!(names(|| block_on(layer().async_mut((7, x.clone()))).is_ok()), [""; 0]);
    assert_eq!(names(|| block_on(layer().boxed_future(&x))), ["blk5/boxed_future"]);
    assert_eq!(names(|| block_on(layer().local_future())), ["local_future"]);
    assert_eq!(
        names(|| block_on(every_shape::tasks(&layer(), &x, &x)).expect("it runs")),
        [
            "two_lifetimes.in.y",
            "two_lifetimes",
            "named_lifetimes.0",
            "named_lifetimes.1",
            "opaque_inside",
            "blk5/elided"
        ]
    );
    let shared = names(|| block_on(std::sync::Arc::new(layer()).shared(x.clone())));
    assert_eq!(shared, ["proj", "proj#1", "proj#2", "shared"]);
    assert_eq!(names(|| block_on(layer().owned(x.clone()))), ["owned"]);
    assert_eq!(
        names(|| block_on(layer().encode_all(&[x.clone()]))),
        ["t1/blk5/later.in.x", "t1/blk5/later", "encode", "encode_all.0"]
    );
    let decoded = names(|| {
        let (layer, _step) = (layer(), TraceContext::seq(8).enter());
        let future = layer.decode(&x);
        drop(_step);
        block_on(future)
    });
    assert_eq!(decoded, ["t1/blk5/later.in.x", "t1/blk5/later", "t8/async_trait"]);
}

#[test]
fn locals_and_layers() {
    let x = x();
    let with_locals = |wanted| names(|| every_shape::with_locals(&x, wanted));
    let [double, kept, y] = ["double", "kept", "y"].map(|name| format!("with_locals.let.{name}"));
    assert_eq!(with_locals(true), [&*double, &kept, &y, "with_locals"]);
    assert_eq!(with_locals(false), [&*double, &y, "with_locals"]);
    assert_eq!(names(|| every_shape::with_list(&x)), ["first", "third", "with_list.let.pair.0", "with_list"]);
    assert_eq!(
        names(|| every_shape::with_layers(&x, &[layer(), layer(), layer(), layer()])),
        ["with_layers.let.x", "blk1/with_layers.let.x.2", "blk2/with_layers.let.x.2", "with_layers"]
    );
    assert_eq!(
        names(|| block_on(every_shape::later_layers(&x, [1.0, 2.0]))),
        ["later_layers.let.x", "blk0/later_layers.let.x.2", "blk1/later_layers.let.x.2", "later_layers"]
    );
}

#[test]
fn derived_types() {
    let (x, key) = (x(), x());
    assert_eq!(names(|| drop(every_shape::heads(&x, &key))), ["heads.q", "heads.key", "heads.v.0", "heads.v.1"]);
    assert_eq!(names(|| every_shape::mask(&x, 0)), [""; 0]);
    assert_eq!(names(|| every_shape::mask(&x, 1)), ["mask.causal.0"]);
    assert_eq!(names(|| every_shape::mask(&x, 2)), ["mask.rows", "mask.cols"]);
    assert_eq!(names(|| every_shape::mask(&x, 3)), [""; 0]);
    assert_eq!(names(|| every_shape::tree(&x)), ["tree.value.0", "tree.children.0.value.0"]);
    assert_eq!(names(|| every_shape::pair(&x)), ["pair.0.0"]);
}

#[test]
fn the_value_is_the_very_one() {
    let given = x();
    assert_eq!(traced(|| every_shape::bailed(&given, false).expect("it does not fail").id()).1, given.id());
    assert_eq!(traced(|| every_shape::heads(&given, &given).q.id()).1, given.id());
    let mut layer = Layer { weight: given.clone(), ..layer() };
    assert_eq!(traced(|| layer.weight().id()).1, given.id());
    // A returned reference is the same reference, not one to a copy.
    let place = std::ptr::from_ref(&layer.weight);
    assert!(traced(|| std::ptr::eq(layer.weight_if(true).expect("it was wanted"), place)).1);
    assert!(traced(|| std::ptr::eq(layer.both(&given).1, &given)).1);
    let future = traced(|| block_on(layer.local_future())).1;
    assert_eq!(future.id(), given.id());
}
