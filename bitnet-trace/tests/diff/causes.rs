//! A cause is named where the numbers leave no other, and nowhere else.

use bitnet_trace::compare::{Cause, Comparison, Verdict};
use bitnet_trace::{Tolerance, diff};
use candle_core::{DType, Device, Tensor};

use crate::{noise, of, tensor};

fn shaped(values: &[f32], dims: &[usize]) -> Tensor {
    tensor(values).reshape(dims).expect("a shape")
}

fn strict(capture: &str, reference: &Tensor, trace: &Tensor) -> Comparison {
    diff(&of(capture, &[("x", reference)]), &of(capture, &[("x", trace)]), &Tolerance::rel_l2(0.0))
}

/// The cause of a difference that no tolerance allows.
fn cause(capture: &str, reference: &Tensor, trace: &Tensor) -> Option<Cause> {
    let comparison = strict(capture, reference, trace);
    assert_ne!(comparison.pairs[0].verdict, Verdict::Identical, "{comparison}");
    comparison.pairs[0].details.as_ref().expect("details").cause.clone()
}

fn nothing(what: &str, reference: &Tensor, trace: &Tensor) {
    for capture in ["sketch", "values"] {
        assert_eq!(cause(capture, reference, trace), None, "{what}, {capture}");
    }
}

fn is(what: &str, reference: &Tensor, trace: &Tensor, expected: &Cause) {
    let near = |found: &Cause| match (found, expected) {
        (Cause::Ratio(found), Cause::Ratio(expected)) => (found / expected - 1.0).abs() < 1e-3,
        (found, expected) => found == expected,
    };
    let found = cause("values", reference, trace);
    assert!(found.as_ref().is_some_and(near), "{what}: expected {expected:?}, found {found:?}");
    let found = cause("sketch", reference, trace);
    assert!(found.as_ref().is_none_or(near), "{what}: expected {expected:?} or nothing, found {found:?}");
}

fn times(tensor: &Tensor, factor: f64) -> Tensor {
    (tensor * factor).expect("scaled")
}

/// One unit in the last place, of one element.
fn next(values: &[f32], at: usize) -> Tensor {
    let mut values = values.to_vec();
    values[at] = f32::from_bits(values[at].to_bits() + 1);
    tensor(&values)
}

#[test]
fn one_unit_in_the_last_place_is_no_factor() {
    for seed in 0..60 {
        let values: Vec<f32> = noise(seed, 40_000).chunks(2).map(|pair| pair[0] + pair[1] / 32768.0).collect();
        let at = usize::try_from(seed).expect("small") * 331;
        nothing(&format!("seed {seed}"), &tensor(&values), &next(&values, at));
    }
}

#[test]
fn a_few_elements_show_no_factor() {
    let one_hot = |value: f32| {
        let rows: Vec<f32> = (0..16 * 64usize).map(|i| if i % 64 == i / 64 * 3 % 64 { value } else { 0.0 }).collect();
        shaped(&rows, &[16, 64])
    };
    let outlier = |by: f32| {
        let mut values = noise(3, 4096);
        values[1234] = 1e6 * by;
        tensor(&values)
    };
    let half = |by: f32| {
        tensor(&noise(4, 4096).chunks(64).enumerate().fold(Vec::new(), |mut all, (row, values)| {
            all.extend(values.iter().map(|value| if row % 2 == 0 { *value } else { value * by }));
            all
        }))
    };
    let mask = |value: f32| tensor(&(0..4096u32).map(|i| if i * i % 7 < 3 { value } else { 0.0 }).collect::<Vec<_>>());
    let cases = [
        ("a scalar", tensor(&[2.0]), tensor(&[3.0])),
        ("the sign of a scalar", tensor(&[1.0]), tensor(&[-1.0])),
        ("the first row of attention", tensor(&[1.0, 0.0, 0.0]), tensor(&[0.5, 0.0, 0.0])),
        ("three elements", tensor(&[1.0, 2.0, 3.0]), tensor(&[2.0, 4.0, 6.0])),
        ("the signs of three elements", tensor(&[1.0, 2.0, 3.0]), tensor(&[-1.0, -2.0, -3.0])),
        ("one of three elements", tensor(&[1.0, 2.0, 3.0]), tensor(&[1.0, 2.0, -3.0])),
        ("rows with one element", one_hot(1.0), one_hot(0.5)),
        ("rows with one element, negated", one_hot(1.0), one_hot(-1.0)),
        ("equal elements", tensor(&[3.0; 4096]), tensor(&[4.5; 4096])),
        ("equal elements, negated", tensor(&[3.0; 4096]), tensor(&[-3.0; 4096])),
        (
            "equal elements, rounded",
            tensor(&[0.1; 4096]),
            tensor(&[0.1; 4096]).to_dtype(DType::BF16).and_then(|x| x.to_dtype(DType::F32)).expect("rounded"),
        ),
        ("a mask", mask(1.0), mask(3.0)),
        ("one outlier", outlier(1.0), outlier(2.0)),
        ("every other row", half(1.0), half(2.0)),
    ];
    for (what, reference, trace) in cases {
        nothing(what, &reference, &trace);
    }
}

#[test]
fn a_factor_of_every_element_is_named() {
    let x = tensor(&noise(1, 4096));
    for factor in [2.0, 0.125, 37.5, 1.01, -3.0, 1e-4] {
        is("f32", &x, &times(&x, factor), &Cause::Ratio(factor));
    }
    is("f32", &x, &times(&x, -1.0), &Cause::SignFlipped);
    for dtype in [DType::F16, DType::BF16] {
        let x = x.to_dtype(dtype).expect("rounded");
        for factor in [2.0, 0.125, 37.5] {
            is(&format!("{dtype:?}"), &x, &times(&x, factor), &Cause::Ratio(factor));
        }
        is(&format!("{dtype:?}"), &x, &times(&x, -1.0), &Cause::SignFlipped);
    }
    let integers = Tensor::arange(1i64, 200, &Device::Cpu).expect("a tensor");
    is("integers", &integers, &times(&integers, 3.0), &Cause::Ratio(3.0));
    // By the sketch too, where the tensor is large enough.
    assert_eq!(cause("sketch", &x, &times(&x, 2.0)), Some(Cause::Ratio(2.0)));
    assert_eq!(cause("sketch", &x, &times(&x, -1.0)), Some(Cause::SignFlipped));
}

#[test]
fn what_rounds_differently_has_no_cause() {
    // Dot products of 512 terms, added from the front and from the back.
    let (weights, x) = (noise(5, 512 * 256), noise(6, 512));
    let dot = |backwards: bool| -> Vec<f32> {
        let product = |row: &[f32]| {
            let terms = row.iter().zip(&x).map(|(w, x)| w * x);
            if backwards {
                terms.rev().fold(0.0, |sum, term| sum + term)
            } else {
                terms.fold(0.0, |sum, term| sum + term)
            }
        };
        weights.chunks(512).map(product).collect()
    };
    nothing("sums in another order", &tensor(&dot(false)), &tensor(&dot(true)));
    // The same with a factor: it is named all the same.
    let scaled: Vec<f32> = dot(true).iter().map(|value| value * 1.5).collect();
    is("sums in another order, scaled", &tensor(&dot(false)), &tensor(&scaled), &Cause::Ratio(1.5));
    nothing("noise", &tensor(&noise(7, 4096)), &tensor(&noise(8, 4096)));
    // Held to a coarse type, a factor near 1 is rounding.
    let coarse = tensor(&noise(9, 4096)).to_dtype(DType::BF16).expect("rounded");
    nothing("bf16", &coarse, &times(&coarse, 1.01));
}

#[test]
fn elements_in_other_places() {
    let x = shaped(&noise(1, 64 * 48), &[64, 48]);
    let rows = |order: &dyn Fn(u32) -> u32| {
        let order = Tensor::new((0..64).map(order).collect::<Vec<_>>(), &Device::Cpu).expect("indices");
        x.index_select(&order, 0).expect("rows")
    };
    is("rows in another order", &x, &rows(&|row| row * 5 % 64), &Cause::Permuted);
    is("two rows exchanged", &x, &rows(&|row| if row < 2 { 1 - row } else { row }), &Cause::Permuted);
    let turned = x.t().and_then(|x| x.contiguous()?.reshape((64, 48))).expect("transposed");
    is("transposed", &x, &turned, &Cause::Transposed(0, 1));
    let near = (&turned + times(&shaped(&noise(2, 64 * 48), &[64, 48]), 1e-6)).expect("added");
    assert_eq!(cause("values", &x, &near), Some(Cause::Transposed(0, 1)));
    let shift = |by: i64| {
        let (first, last) = (x.narrow(0, 0, 1).expect("a row"), x.narrow(0, 63, 1).expect("a row"));
        let parts =
            if by > 0 { [first, x.narrow(0, 0, 63).expect("rows")] } else { [x.narrow(0, 1, 63).expect("rows"), last] };
        Tensor::cat(&parts, 0).expect("shifted")
    };
    is("shifted", &x, &shift(1), &Cause::ShiftedByTokens(1));
    is("shifted back", &x, &shift(-1), &Cause::ShiftedByTokens(-1));
    // Heads are no tokens: of three dimensions none is known to be that of tokens.
    let heads = |x: &Tensor| x.reshape((64, 6, 8)).and_then(|x| x.transpose(0, 1)?.contiguous()).expect("heads");
    assert_eq!(cause("values", &heads(&x), &heads(&shift(1))), None);
    // Rows that are all alike are shifted and not shifted.
    let alike = |first: u32| {
        let rows: Vec<f32> = (0..64u32).flat_map(|row| noise(if row == 0 { first } else { 1 }, 48)).collect();
        shaped(&rows, &[64, 48])
    };
    assert_eq!(cause("values", &alike(1), &alike(2)), None);
    // Elements of two kinds are found in any order.
    let two = |seed: u32| {
        shaped(
            &noise(seed, 64)
                .iter()
                .enumerate()
                .map(|(i, _)| if (i * 7 + seed as usize) % 64 < 32 { 1.0 } else { 2.0 })
                .collect::<Vec<_>>(),
            &[64],
        )
    };
    nothing("two kinds of elements", &two(1), &two(9));
}

#[test]
fn exchanged_dimensions_are_named_where_no_others_explain_it() {
    // The sum over the rotations of three dimensions is the same after each of them: then all three
    // exchanges of two give one tensor.
    let (a, b, c) = (noise(1, 6), noise(2, 6), noise(3, 6));
    let product = |i: usize, j: usize, k: usize| a[i] * b[j] * c[k];
    let at = |[i, j, k]: [usize; 3]| (product(i, j, k) + product(j, k, i)) + product(k, i, j);
    let all = |order: [usize; 3]| {
        let places = (0..6).flat_map(|i| (0..6).flat_map(move |j| (0..6).map(move |k| [i, j, k])));
        shaped(&places.map(|place| at(order.map(|dim| place[dim]))).collect::<Vec<_>>(), &[6, 6, 6])
    };
    let found = cause("values", &all([0, 1, 2]), &all([1, 0, 2]));
    assert!(!matches!(found, Some(Cause::Transposed(..))), "{found:?}");
    let x = shaped(&noise(4, 216), &[6, 6, 6]);
    is(
        "one exchange",
        &x,
        &x.transpose(0, 2).and_then(|x| x.contiguous()).expect("exchanged"),
        &Cause::Transposed(0, 2),
    );
}

#[test]
fn signs_rounding_and_zeros() {
    let values = noise(1, 4096);
    let x = tensor(&values);
    let mut flipped = values.clone();
    flipped[77] = -flipped[77];
    is("one sign", &x, &tensor(&flipped), &Cause::SignsFlipped(1));
    let fine: Vec<f32> = noise(1, 8192).chunks(2).map(|pair| pair[0] + pair[1] / 32768.0).collect();
    let fine = tensor(&fine);
    let rounded = |x: &Tensor, dtype| x.to_dtype(dtype).and_then(|y| y.to_dtype(x.dtype())).expect("rounded");
    is("rounded", &fine, &rounded(&fine, DType::BF16), &Cause::RoundedTo("BF16"));
    is("rounded", &fine, &rounded(&fine, DType::F16), &Cause::RoundedTo("F16"));
    let double = times(&fine.to_dtype(DType::F64).expect("widened"), 1.0 / 3.0);
    is("rounded", &double, &rounded(&double, DType::F32), &Cause::RoundedTo("F32"));
    is("zeros", &x, &times(&x, 0.0), &Cause::AllZero);
    // Elements that are NaN on both sides are left out, and nothing is claimed of the rest.
    let with_nan = |by: f32| {
        let mut values: Vec<f32> = values.iter().map(|value| value * by).collect();
        values[5] = f32::NAN;
        tensor(&values)
    };
    nothing("NaN on both sides", &with_nan(1.0), &with_nan(2.0));
}
