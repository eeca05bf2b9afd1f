//! The float kernels for AVX-512. They add in the order of [`super::float`]: a vector is its 16 lanes.
//!
//! `unsafe` here: loads and stores through pointers. Each function checks the lengths of its slices first.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps,
    _mm256_castpd_ps, _mm256_castps256_ps128, _mm256_extractf128_ps, _mm256_loadu_si256, _mm512_add_ps,
    _mm512_castps_pd, _mm512_castps512_ps256, _mm512_castsi512_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps,
    _mm512_cvtepu16_epi32, _mm512_cvtph_ps, _mm512_extractf64x4_pd, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_slli_epi32,
};
use std::slice;

use half::f16;

use super::float::{BF16, F16, F32, FloatType, LANES, Q8_0, Q8_BLOCK, Q8_BYTES, filled, widen};
use super::portable;
use super::portable::TILE;
use super::prefetch::{LINE, ahead};

/// Rows that are multiplied at once, so that one row's additions do not wait for each other.
const ROWS: usize = 4;

/// See [`portable::float_rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) fn rows(dtype: FloatType, data: &[u8], stride: usize, x: &[f32], out: &mut [f32]) {
    match dtype {
        FloatType::F32 => rows_of::<F32>(dtype, data, stride, x, out),
        FloatType::F16 => rows_of::<F16>(dtype, data, stride, x, out),
        FloatType::Bf16 => rows_of::<BF16>(dtype, data, stride, x, out),
        FloatType::Q8_0 => rows_of::<Q8_0>(dtype, data, stride, x, out),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
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
    let mut lanes = [_mm512_setzero_ps(); R];
    let mut at = 0;
    while at < whole {
        if in_a_row {
            for row in 0..R {
                ahead(data.as_ptr().wrapping_add(row * stride + bytes * (at / LANES)), bytes.div_ceil(LINE));
            }
        }
        // SAFETY: 16 elements from `at` on are within `x` and, by the caller, within each row.
        unsafe {
            let x = _mm512_loadu_ps(x.as_ptr().add(at));
            for (row, lanes) in lanes.iter_mut().enumerate() {
                let values = load::<D>(data.as_ptr().add(row * stride), at);
                *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(values, x));
            }
        }
        at += LANES;
    }
    if whole < x.len() {
        let last = filled(&x[whole..]);
        // SAFETY: `last` has 16 elements.
        let x_last = unsafe { _mm512_loadu_ps(last.as_ptr()) };
        for (row, lanes) in lanes.iter_mut().enumerate() {
            let mut values = [0.0; LANES];
            // A row that is no multiple of 16 is none of blocks.
            let from = row * stride + dtype.row_bytes(whole).unwrap_or_default();
            widen(dtype, &data[from..], &mut values[..x.len() - whole]);
            // SAFETY: `values` has 16 elements.
            let values = unsafe { _mm512_loadu_ps(values.as_ptr()) };
            *lanes = _mm512_add_ps(*lanes, _mm512_mul_ps(values, x_last));
        }
    }
    let mut sums = [0.0; R];
    for (sum, lanes) in sums.iter_mut().zip(lanes) {
        *sum = fold(lanes);
    }
    sums
}

/// Widens 16 elements of a row, from column `at` on, which is a multiple of 16.
///
/// # Safety
///
/// The row has these columns.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
unsafe fn load<const D: u8>(row: *const u8, at: usize) -> __m512 {
    // SAFETY: the caller's.
    unsafe {
        match D {
            F32 => _mm512_loadu_ps(row.add(4 * at).cast()),
            F16 => _mm512_cvtph_ps(_mm256_loadu_si256(row.add(2 * at).cast())),
            BF16 => {
                let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(row.add(2 * at).cast()));
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves))
            }
            _ => {
                let block = row.add(at / Q8_BLOCK * Q8_BYTES);
                let scale = f16::from_le_bytes(block.cast::<[u8; 2]>().read()).to_f32();
                let factors = _mm_loadu_si128(block.add(2 + at % Q8_BLOCK).cast());
                _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(factors)))
            }
        }
    }
}

/// Adds the lanes as [`super::float`] says.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn fold(lanes: __m512) -> f32 {
    let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(lanes)));
    let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), upper);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}

/// See [`portable::dot_rows`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) fn dot_rows(rows: &[f32], stride: usize, x: &[f32], out: &mut [f32]) {
    // SAFETY: floats are bytes, and the alignment of bytes is 1.
    let bytes = unsafe { slice::from_raw_parts(rows.as_ptr().cast(), size_of_val(rows)) };
    rows_of::<F32>(FloatType::F32, bytes, stride * size_of::<f32>(), x, out);
}

/// See [`portable::float_tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) fn tile(rows: &[f32], tokens: &[f32], stride: usize, sums: &mut [[f32; TILE]; TILE]) {
    match tokens.len() / stride {
        1 => tile_of::<1>(rows, tokens, stride, sums),
        2 => tile_of::<2>(rows, tokens, stride, sums),
        3 => tile_of::<3>(rows, tokens, stride, sums),
        _ => tile_of::<4>(rows, tokens, stride, sums),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
fn tile_of<const TOKENS: usize>(rows: &[f32], tokens: &[f32], stride: usize, sums: &mut [[f32; TILE]; TILE]) {
    assert!(stride.is_multiple_of(LANES) && rows.len() >= TILE * stride && tokens.len() >= TOKENS * stride);
    let mut lanes = [[_mm512_setzero_ps(); TOKENS]; TILE];
    let mut at = 0;
    while at < stride {
        // SAFETY: there are four rows and as many tokens, and `at` is a multiple of 16 within the stride.
        unsafe {
            let mut values = [_mm512_setzero_ps(); TILE];
            for (row, values) in values.iter_mut().enumerate() {
                *values = _mm512_loadu_ps(rows.as_ptr().add(row * stride + at));
            }
            for token in 0..TOKENS {
                let x = _mm512_loadu_ps(tokens.as_ptr().add(token * stride + at));
                for (lanes, values) in lanes.iter_mut().zip(values) {
                    lanes[token] = _mm512_add_ps(lanes[token], _mm512_mul_ps(values, x));
                }
            }
        }
        at += LANES;
    }
    for (sums, lanes) in sums.iter_mut().zip(lanes) {
        for (sum, lanes) in sums.iter_mut().zip(lanes) {
            *sum = fold(lanes);
        }
    }
}

/// See [`portable::weighted_sum`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,f16c")]
pub(super) fn weighted_sum(weights: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    portable::weighted_sum(weights, rows, stride, out);
}
