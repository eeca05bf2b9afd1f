//! Views against what candle makes of the same steps; shifts along a dimension that is given.

use std::borrow::Cow;

use candle_core::{DType, Device, Tensor};

use super::cause;
use super::metric::measure;
use super::view::{Step, View};
use crate::captured::{Captured, CapturedValues};
use crate::diff::verdict::Cause;
use crate::dtype::Dtype;
use crate::strided::Strided;

use super::opened::Opened;

fn numbers(count: u16) -> Vec<f32> {
    (0..count).map(|i| f32::from(i.wrapping_mul(40_503)) / 65536.0 - 0.5).collect()
}

fn view(values: &[f32], dims: &[usize]) -> View<'static> {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    View::new(Dtype::F32, Cow::Owned(bytes), Strided::contiguous(dims))
}

fn elements(view: &View<'_>) -> Vec<f64> {
    let mut all = Vec::new();
    view.blocks(|start, elements: &[f64]| {
        assert_eq!(start, all.len());
        all.extend_from_slice(elements);
        std::ops::ControlFlow::<()>::Continue(())
    });
    all
}

fn of_candle(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).and_then(|tensor| tensor.flatten_all()?.to_vec1()).expect("f64")
}

/// The same step by candle.
type Candle = fn(&Tensor) -> candle_core::Result<Tensor>;

#[test]
fn steps_see_what_candle_sees() {
    let dims = [3, 4, 50, 20];
    let tensor = Tensor::from_vec(numbers(12_000), &dims, &Device::Cpu).expect("a tensor");
    let cases: Vec<(Vec<Step>, Candle)> = vec![
        (vec![], |x| Ok(x.clone())),
        (vec![Step::Transpose(-3, -2)], |x| x.transpose(1, 2)),
        (vec![Step::Permute(vec![3, 1, 0, 2])], |x| x.permute((3, 1, 0, 2))),
        (vec![Step::Reshape(vec![12, 1000])], |x| x.reshape((12, 1000))),
        (vec![Step::Transpose(0, 3), Step::Reshape(vec![80, 150])], |x| x.transpose(0, 3)?.reshape((80, 150))),
        (vec![Step::Transpose(0, 1), Step::Reshape(vec![4, 3, 25, 40])], |x| {
            x.transpose(0, 1)?.reshape((4, 3, 25, 40))
        }),
        (vec![Step::Slice { dim: -1, start: 3, end: 9 }, Step::Reshape(vec![600, 6])], |x| {
            x.narrow(3, 3, 6)?.reshape((600, 6))
        }),
        (vec![Step::Slice { dim: 2, start: 7, end: 7 }], |x| x.narrow(2, 7, 0)),
        (vec![Step::Row { dim: 2, index: 49 }], |x| x.narrow(2, 49, 1)),
        (vec![Step::Transpose(1, 2), Step::Row { dim: 1, index: 5 }], |x| x.transpose(1, 2)?.narrow(1, 5, 1)),
    ];
    for (steps, candle) in cases {
        let expected = candle(&tensor).expect("candle can");
        // From bytes, from a tensor in memory, and from one that lies in another order.
        let values = CapturedValues {
            dtype: Dtype::F32,
            shape: dims.to_vec(),
            bytes: numbers(12_000).iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let turned = tensor.permute((3, 2, 1, 0)).and_then(|x| x.contiguous()?.permute((3, 2, 1, 0))).expect("turned");
        for captured in [Captured::Read(values), Captured::InMemory(tensor.clone()), Captured::InMemory(turned)] {
            let opened = Opened::new(&captured);
            let found = opened.view().and_then(|view| view.after(&steps, &dims)).expect("possible");
            assert_eq!(found.dims(), expected.dims(), "{steps:?}");
            assert!(elements(&found) == of_candle(&expected), "{steps:?}");
        }
    }
}

#[test]
fn steps_that_are_impossible_are_refused() {
    let cases = [
        (Step::Reshape(vec![5]), "has not its 24"),
        (Step::Reshape(vec![usize::MAX, 2]), "has not its 24"),
        (Step::Transpose(0, 3), "no dimension 3"),
        (Step::Transpose(i64::MIN, 0), "no dimension"),
        (Step::Permute(vec![0, 1]), "each of 3 dimensions"),
        (Step::Permute(vec![0, 1, 1]), "each of 3 dimensions"),
        (Step::Slice { dim: 2, start: 3, end: 9 }, "dimension 2 ends at 4"),
        (Step::Slice { dim: 2, start: 3, end: 2 }, "ends before it begins"),
        (Step::Slice { dim: 0, start: usize::MAX, end: usize::MAX }, "ends at 2"),
        (Step::Row { dim: 0, index: 2 }, "no place 2"),
        (Step::Row { dim: 9, index: 0 }, "no place 0"),
        (Step::Trim(-1), "not 0"),
    ];
    for (step, expected) in cases {
        let refused = view(&numbers(24), &[2, 3, 4]).after(&[step], &[2, 3, 2]).expect_err("impossible");
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
}

#[test]
fn rows_are_trimmed_to_the_other_side() {
    let scores: Vec<f32> =
        (0..5u8).flat_map(|i| (0..5u8).map(move |j| if j <= i { f32::from(i + 1) } else { 0.0 })).collect();
    let step = Step::Row { dim: 2, index: 1 };
    let row = view(&scores, &[1, 1, 5, 5]).after(&[step], &[1, 1, 1, 2]).expect("possible").squeezed();
    assert_eq!((row.dims(), elements(&row)), (&[2][..], vec![2.0, 2.0]));
    let refused = view(&scores, &[1, 1, 5, 5]).after(&[Step::Row { dim: 2, index: 4 }], &[1, 1, 1, 2]);
    assert!(refused.expect_err("not 0").contains("not 0: 5"));
}

#[test]
fn rows_shifted_along_the_dimension_of_tokens_that_is_given() {
    let (heads, tokens, channels) = (4, 16, 8);
    let at = |head: usize, token: usize| numbers(65_535)[(head * tokens + token) * channels..][..channels].to_vec();
    let tensor = |shift: usize| -> View<'static> {
        let rows = (0..heads).flat_map(|head| (0..tokens).map(move |token| (head, token)));
        let values: Vec<f32> = rows.flat_map(|(head, token)| at(head, token.saturating_sub(shift))).collect();
        view(&values, &[heads, tokens, channels])
    };
    let (reference, trace) = (tensor(0), tensor(1));
    let measured = measure::<f64>([&reference, &trace], ["F32"; 2]);
    let found = |tokens| cause::of_values::<f64>([&reference, &trace], &measured, tokens);
    assert_eq!(found(Some(1)), Some(Cause::ShiftedByTokens(1)));
    for other in [None, Some(0), Some(2), Some(9)] {
        assert_eq!(found(other), None, "{other:?}");
    }
}
