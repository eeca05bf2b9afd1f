//! The float kernels for AVX2 and F16C. They add in the order of [`super::float`]: two vectors are its 16 lanes.
//!
//! `unsafe` here: loads and stores through pointers. Each function checks the lengths of its slices first.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadl_epi64, _mm_loadu_si128, _mm_movehl_ps, _mm_shuffle_ps,
    _mm256_add_ps, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps,
    _mm256_cvtepu16_epi32, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_loadu_ps, _mm256_mul_ps, _mm256_set1_ps,
    _mm256_setzero_ps, _mm256_slli_epi32,
};
use std::slice;

use half::f16;

use super::float::{BF16, F16, F32, FloatType, LANES, Q8_0, Q8_BLOCK, Q8_BYTES, filled, widen};
use super::portable;
use super::portable::TILE;
use super::prefetch::{LINE, ahead};

/// Lanes of a vector.
const WIDTH: usize = LANES / 2;

/// Rows that are multiplied at once, so that one row's additions do not wait for each other.
const ROWS: usize = 2;

/// The 16 lanes of a dot product.
type Lanes = [__m256; 2];

/// See [`portable::float_rows`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn rows(dtype: FloatType, data: &[u8], stride: usize, x: &[f32], out: &mut [f32]) {
    match dtype {
        FloatType::F32 => rows_of::<F32>(dtype, data, stride, x, out),
        FloatType::F16 => rows_of::<F16>(dtype, data, stride, x, out),
        FloatType::Bf16 => rows_of::<BF16>(dtype, data, stride, x, out),
        FloatType::Q8_0 => rows_of::<Q8_0>(dtype, data, stride, x, out),
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn rows_of<const D: u8>(dtype: FloatType, data: &[u8], stride: usize, x: &[f32], out: &mut [f32]) {
    let Some(row_bytes) = dtype.row_bytes(x.len()) else { return portable::float_rows(dtype, data, stride, x, out) };
    assert!(out.is_empty() || data.len() >= (out.len() - 1) * stride + row_bytes);
    let far = out.len() / ROWS;
    for index in 0..far {
        // SAFETY: the rows are within the data, as checked above.
        let some =
            unsafe { some_rows::<D, ROWS>(dtype, &data[index * stride..], far * stride, x, stride == row_bytes) };
        for (stream, sum) in some.into_iter().enumerate() {
            out[index + stream * far] = sum;
        }
    }
    for index in ROWS * far..out.len() {
        // SAFETY: as above.
        [out[index]] = unsafe { some_rows::<D, 1>(dtype, &data[index * stride..], stride, x, stride == row_bytes) };
    }
}

/// # Safety
///
/// `data` has `R` rows, `stride` bytes apart, of the length of `x` and the type `D`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn some_rows<const D: u8, const R: usize>(
    dtype: FloatType,
    data: &[u8],
    stride: usize,
    x: &[f32],
    in_a_row: bool,
) -> [f32; R] {
    let whole = x.len() / LANES * LANES;
    // Bytes of 16 elements.
    let bytes = match D {
        F32 => 4 * LANES,
        F16 | BF16 => 2 * LANES,
        _ => Q8_BYTES / 2,
    };
    let mut lanes = [[_mm256_setzero_ps(); 2]; R];
    let mut at = 0;
    while at < whole {
        if in_a_row {
            for row in 0..R {
                ahead(data.as_ptr().wrapping_add(row * stride + bytes * (at / LANES)), bytes.div_ceil(LINE));
            }
        }
        // SAFETY: 16 elements from `at` on are within `x` and, by the caller, within each row.
        unsafe {
            let x = [_mm256_loadu_ps(x.as_ptr().add(at)), _mm256_loadu_ps(x.as_ptr().add(at + WIDTH))];
            for (row, lanes) in lanes.iter_mut().enumerate() {
                let row = data.as_ptr().add(row * stride);
                add(lanes, [load::<D>(row, at), load::<D>(row, at + WIDTH)], x);
            }
        }
        at += LANES;
    }
    if whole < x.len() {
        let x_last = both(&filled(&x[whole..]));
        for (row, lanes) in lanes.iter_mut().enumerate() {
            let mut values = [0.0; LANES];
            // A row that is no multiple of 16 is none of blocks.
            let from = row * stride + dtype.row_bytes(whole).unwrap_or_default();
            widen(dtype, &data[from..], &mut values[..x.len() - whole]);
            add(lanes, both(&values), x_last);
        }
    }
    let mut sums = [0.0; R];
    for (sum, lanes) in sums.iter_mut().zip(lanes) {
        *sum = fold(lanes);
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn both(values: &[f32; LANES]) -> Lanes {
    // SAFETY: there are 16 elements.
    unsafe { [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(WIDTH))] }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn add(lanes: &mut Lanes, [a, b]: Lanes, [x, y]: Lanes) {
    let [low, high] = *lanes;
    *lanes = [_mm256_add_ps(low, _mm256_mul_ps(a, x)), _mm256_add_ps(high, _mm256_mul_ps(b, y))];
}

/// Widens 8 elements of a row, from column `at` on, which is a multiple of 8.
///
/// # Safety
///
/// The row has these columns.
#[inline]
#[target_feature(enable = "avx2,f16c")]
unsafe fn load<const D: u8>(row: *const u8, at: usize) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        match D {
            F32 => _mm256_loadu_ps(row.add(4 * at).cast()),
            F16 => _mm256_cvtph_ps(_mm_loadu_si128(row.add(2 * at).cast())),
            BF16 => {
                let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(row.add(2 * at).cast()));
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves))
            }
            _ => {
                let block = row.add(at / Q8_BLOCK * Q8_BYTES);
                let scale = f16::from_le_bytes(block.cast::<[u8; 2]>().read()).to_f32();
                let factors = _mm_loadl_epi64(block.add(2 + at % Q8_BLOCK).cast());
                _mm256_mul_ps(_mm256_set1_ps(scale), _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(factors)))
            }
        }
    }
}

/// Adds the lanes as [`super::float`] says.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn fold([low, high]: Lanes) -> f32 {
    let eight = _mm256_add_ps(low, high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// See [`portable::dot_rows`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn dot_rows(rows: &[f32], stride: usize, x: &[f32], out: &mut [f32]) {
    // SAFETY: floats are bytes, and the alignment of bytes is 1.
    let bytes = unsafe { slice::from_raw_parts(rows.as_ptr().cast(), size_of_val(rows)) };
    rows_of::<F32>(FloatType::F32, bytes, stride * size_of::<f32>(), x, out);
}

/// See [`portable::float_tile`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn tile(rows: &[f32], tokens: &[f32], stride: usize, sums: &mut [[f32; TILE]; TILE]) {
    let count = (tokens.len() / stride).min(TILE);
    for row in (0..TILE).step_by(2) {
        for token in 0..count {
            let pair = two_rows(&rows[row * stride..], &tokens[token * stride..], stride);
            for (sums, sum) in sums[row..].iter_mut().zip(pair) {
                sums[token] = sum;
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,f16c")]
fn two_rows(rows: &[f32], token: &[f32], stride: usize) -> [f32; 2] {
    assert!(stride.is_multiple_of(LANES) && rows.len() >= 2 * stride && token.len() >= stride);
    let mut lanes = [[_mm256_setzero_ps(); 2]; 2];
    let mut at = 0;
    while at < stride {
        // SAFETY: there are two rows and a token, and `at` is a multiple of 16 within the stride.
        unsafe {
            let x = [_mm256_loadu_ps(token.as_ptr().add(at)), _mm256_loadu_ps(token.as_ptr().add(at + WIDTH))];
            for (row, lanes) in lanes.iter_mut().enumerate() {
                let row = rows.as_ptr().add(row * stride + at);
                add(lanes, [_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(WIDTH))], x);
            }
        }
        at += LANES;
    }
    let [a, b] = lanes;
    [fold(a), fold(b)]
}

/// See [`portable::weighted_sum`].
#[target_feature(enable = "avx2,f16c")]
pub(super) fn weighted_sum(weights: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    portable::weighted_sum(weights, rows, stride, out);
}
