//! Compares views with what ndarray makes of the same steps, and tests shifts along a given dimension.

use std::borrow::Cow;

use ndarray::{ArrayD, Axis};

use super::cause;
use super::metric::measure;
use super::view::{Step, View};
use crate::compare::verdict::Cause;
use crate::digest::dtype::Dtype;
use crate::digest::strided::Strided;

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

/// The same step, done by ndarray.
type Reference = fn(ArrayD<f32>) -> ArrayD<f32>;

fn reshaped(array: &ArrayD<f32>, dims: &[usize]) -> ArrayD<f32> {
    let elements = array.iter().copied().collect();
    ArrayD::from_shape_vec(dims, elements).expect("as many elements")
}

fn swapped(mut array: ArrayD<f32>, a: usize, b: usize) -> ArrayD<f32> {
    array.swap_axes(a, b);
    array
}

fn narrowed(array: &ArrayD<f32>, dim: usize, start: usize, length: usize) -> ArrayD<f32> {
    array.slice_axis(Axis(dim), (start..start + length).into()).to_owned()
}

#[test]
fn steps_see_what_ndarray_sees() {
    let dims = [3, 4, 50, 20];
    let array = ArrayD::from_shape_vec(&dims[..], numbers(12_000)).expect("a tensor");
    let cases: Vec<(Vec<Step>, Reference)> = vec![
        (vec![], |x| x),
        (vec![Step::Transpose(-3, -2)], |x| swapped(x, 1, 2)),
        (vec![Step::Permute(vec![3, 1, 0, 2])], |x| x.permuted_axes(&[3, 1, 0, 2][..])),
        (vec![Step::Reshape(vec![12, 1000])], |x| reshaped(&x, &[12, 1000])),
        (vec![Step::Flatten(1, 2)], |x| reshaped(&x, &[3, 200, 20])),
        (vec![Step::Flatten(-1, 3)], |x| x),
        (vec![Step::Transpose(1, 2), Step::Flatten(2, -1)], |x| reshaped(&swapped(x, 1, 2), &[3, 50, 80])),
        (vec![Step::Transpose(0, 3), Step::Reshape(vec![80, 150])], |x| reshaped(&swapped(x, 0, 3), &[80, 150])),
        (vec![Step::Transpose(0, 1), Step::Reshape(vec![4, 3, 25, 40])], |x| {
            reshaped(&swapped(x, 0, 1), &[4, 3, 25, 40])
        }),
        (vec![Step::Slice { dim: -1, start: 3, end: 9 }, Step::Reshape(vec![600, 6])], |x| {
            reshaped(&narrowed(&x, 3, 3, 6), &[600, 6])
        }),
        (vec![Step::Slice { dim: 2, start: 7, end: 7 }], |x| narrowed(&x, 2, 7, 0)),
        (vec![Step::Row { dim: 2, index: 49 }], |x| narrowed(&x, 2, 49, 1)),
        (vec![Step::Transpose(1, 2), Step::Row { dim: 1, index: 5 }], |x| narrowed(&swapped(x, 1, 2), 1, 5, 1)),
    ];
    for (steps, reference) in cases {
        let expected = reference(array.clone());
        let found = view(&numbers(12_000), &dims).after(&steps, &dims).expect("possible");
        assert_eq!(found.dims(), expected.shape(), "{steps:?}");
        let expected: Vec<f64> = expected.iter().map(|element| f64::from(*element)).collect();
        assert!(elements(&found) == expected, "{steps:?}");
    }
}

#[test]
fn steps_that_are_impossible_are_refused() {
    let cases = [
        (Step::Reshape(vec![5]), "does not have its 24"),
        (Step::Reshape(vec![usize::MAX, 2]), "does not have its 24"),
        (Step::Transpose(0, 3), "no dimension 3"),
        (Step::Transpose(i64::MIN, 0), "no dimension"),
        (Step::Transpose(i64::MIN, -1), "no dimension"),
        (Step::Transpose(-7, -1), "no dimension"),
        (Step::Transpose(-4, 0), "no dimension"),
        (Step::Permute(vec![0, 1]), "each of 3 dimensions"),
        (Step::Permute(vec![0, 1, 1]), "each of 3 dimensions"),
        (Step::Flatten(1, 3), "no dimension 3"),
        (Step::Flatten(2, 1), "dimension 2 comes after dimension 1"),
        (Step::Slice { dim: 2, start: 3, end: 9 }, "dimension 2 ends at 4"),
        (Step::Slice { dim: 2, start: 3, end: 2 }, "ends before it begins"),
        (Step::Slice { dim: 0, start: usize::MAX, end: usize::MAX }, "ends at 2"),
        (Step::Row { dim: 0, index: 2 }, "no index 2"),
        (Step::Row { dim: 9, index: 0 }, "no index 0"),
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

/// The rotated query of one token, as ggml counts its dimensions.
#[test]
fn a_dimension_from_the_end_may_be_a_leading_one_of_size_1() {
    let values = numbers(24);
    let turned = view(&values, &[6, 4]).after(&[Step::Transpose(-3, -2)], &[1, 6, 1, 4]).expect("possible");
    assert_eq!(turned.dims(), [6, 1, 4]);
    assert_eq!(elements(&turned), elements(&view(&values, &[6, 4])));
}
