//! Float products and weighted sums against the order that defines them.

use bytes::Bytes;
use half::{bf16, f16};

use super::{levels, random};
use crate::kernels::{FloatMatrix, FloatType};

/// The definition of [`crate::kernels::float`], element by element.
fn defined(row: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    for i in 0..row.len().next_multiple_of(16) {
        lanes[i % 16] += row.get(i).unwrap_or(&0.0) * x.get(i).unwrap_or(&0.0);
    }
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
    }
    lanes[0]
}

pub(super) fn floats(count: usize, seed: u64) -> Vec<f32> {
    let mut next = random(seed);
    (0..count)
        .map(|_| f32::from(i16::from_le_bytes([next().to_le_bytes()[2], next().to_le_bytes()[3]])) / 777.0)
        .collect()
}

pub(super) fn stored(dtype: FloatType, values: &[f32]) -> Bytes {
    match dtype {
        FloatType::F32 => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
        FloatType::F16 => values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
        FloatType::Bf16 => values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
        FloatType::Q8_0 => values
            .chunks(32)
            .flat_map(|block| {
                let scale = block[0].to_le_bytes()[1];
                let scale = f16::from_f32(f32::from(scale) / 1000.0).to_le_bytes();
                scale.into_iter().chain(block.iter().map(|x| x.to_le_bytes()[2])).collect::<Vec<_>>()
            })
            .collect(),
    }
}

#[test]
fn float_products_add_in_the_defined_order_whatever_computes_them() {
    for dtype in [FloatType::F32, FloatType::F16, FloatType::Bf16, FloatType::Q8_0] {
        for (rows, columns) in [(1usize, 1usize), (3, 15), (5, 16), (4, 33), (9, 64), (35, 160), (257, 2560), (6, 100)]
        {
            let columns = if dtype == FloatType::Q8_0 { columns.next_multiple_of(32) } else { columns };
            let data = stored(dtype, &floats(rows * columns, 10));
            let matrix = FloatMatrix::new(dtype, rows, columns, data).expect("a matrix");
            for tokens in [1, 2, 3, 5] {
                let x = floats(tokens * columns, 11);
                let mut row = vec![0.0; columns];
                let mut expected = vec![0; tokens * rows];
                for index in 0..rows {
                    matrix.row(index, &mut row);
                    for (token, x) in x.chunks(columns).enumerate() {
                        expected[token * rows + index] = defined(&row, x).to_bits();
                    }
                }
                for level in levels() {
                    let out = level.in_scope(|| matrix.product(&x));
                    let out: Vec<_> = out.iter().map(|x| x.to_bits()).collect();
                    assert!(out == expected, "{dtype:?} {rows}x{columns} {tokens} tokens, {}", level.kernel());
                }
            }
        }
    }
}

#[test]
fn weighted_sums_are_the_same_on_all_kernels() {
    for (positions, stride, width) in [(1, 16, 16), (5, 48, 16), (7, 640, 128), (33, 24, 20), (3, 5, 5)] {
        let (weights, rows) = (floats(positions, 12), floats(positions * stride, 13));
        let mut expected = vec![0.5f32; width];
        for (weight, row) in weights.iter().zip(rows.chunks(stride)) {
            for (out, x) in expected.iter_mut().zip(row) {
                *out += weight * x;
            }
        }
        for level in levels() {
            let mut out = vec![0.5; width];
            level.weighted_sum(&weights, &rows, stride, &mut out);
            assert_eq!(out, expected, "{}", level.kernel());
        }
    }
}
