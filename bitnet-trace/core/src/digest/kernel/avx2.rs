//! The kernel for AVX2 with FMA and F16C.
//!
//! `unsafe` is needed for loads and stores: these intrinsics take pointers, and with them the conversions read
//! memory directly. Every function here may be called only on a processor with the features that it names.
#![allow(unsafe_code)]
#![allow(clippy::cast_ptr_alignment)] // the intrinsics used are the unaligned ones
#![allow(clippy::wildcard_imports)] // the names have their own prefix

use std::arch::x86_64::*;

use super::{LANES, SubBlock, xor_table};
use crate::digest::constants::BUCKETS;
use crate::digest::sketch::RowKeys;

/// Number of f32 in a register.
const WIDTH: usize = 8;

#[target_feature(enable = "avx2,fma")]
pub(super) fn statistics(values: &[f32]) -> SubBlock {
    let mut sum = [_mm256_setzero_pd(); 4];
    let mut squares = [_mm256_setzero_pd(); 4];
    let mut min = _mm256_set1_ps(f32::INFINITY);
    let mut max = _mm256_set1_ps(f32::NEG_INFINITY);
    let mut zeros = _mm256_setzero_si256();
    let (rows, tail) = values.as_chunks::<LANES>();
    for row in rows {
        add(&mut sum, &mut squares, row);
        for half in row.as_chunks::<WIDTH>().0 {
            // SAFETY: the half has 8 elements.
            let half = unsafe { _mm256_loadu_ps(half.as_ptr()) };
            min = _mm256_min_ps(min, half);
            max = _mm256_max_ps(max, half);
            let is_zero = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_EQ_OQ>(half, _mm256_setzero_ps()));
            zeros = _mm256_sub_epi32(zeros, is_zero);
        }
    }
    let mut last = [0.0; LANES];
    last[..tail.len()].copy_from_slice(tail);
    add(&mut sum, &mut squares, &last);

    let mut found = SubBlock {
        sum: fold(sum),
        sum_of_squares: fold(squares),
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
        zeros: 0,
    };
    let (mut mins, mut maxs, mut counts) = ([0.0; WIDTH], [0.0; WIDTH], [0u32; WIDTH]);
    // SAFETY: each array is as long as a register.
    unsafe {
        _mm256_storeu_ps(mins.as_mut_ptr(), min);
        _mm256_storeu_ps(maxs.as_mut_ptr(), max);
        _mm256_storeu_si256(counts.as_mut_ptr().cast(), zeros);
    }
    for &value in mins.iter().chain(tail) {
        found.min = if value < found.min { value } else { found.min };
    }
    for &value in maxs.iter().chain(tail) {
        found.max = if value > found.max { value } else { found.max };
    }
    let in_tail = tail.iter().map(|&value| u32::from(value == 0.0));
    found.zeros = counts.into_iter().chain(in_tail).sum::<u32>() as usize;
    found
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn add(sum: &mut [__m256d; 4], squares: &mut [__m256d; 4], row: &[f32; LANES]) {
    for (quarter, from) in row.as_chunks::<4>().0.iter().enumerate() {
        // SAFETY: the quarter has 4 elements.
        let wide = unsafe { _mm256_cvtps_pd(_mm_loadu_ps(from.as_ptr())) };
        sum[quarter] = _mm256_add_pd(sum[quarter], wide);
        // The square of an f32 is exact in f64, so the fused operation gives the same bits as a separate one.
        squares[quarter] = _mm256_fmadd_pd(wide, wide, squares[quarter]);
    }
}

/// Adds lane j+8 to lane j, then lane j+4, j+2, j+1.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn fold(lanes: [__m256d; 4]) -> f64 {
    let four = _mm256_add_pd(_mm256_add_pd(lanes[0], lanes[2]), _mm256_add_pd(lanes[1], lanes[3]));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
}

/// `XOR[m]` has (lane XOR m) in every lane.
static XOR: [[u32; WIDTH]; WIDTH] = xor_table();

/// Number of registers that hold the buckets; each holds a group of 8.
const GROUPS: usize = BUCKETS / WIDTH;

#[target_feature(enable = "avx2,fma")]
pub(super) fn sketch(values: &[f32], first_row: u64, totals: &mut [f64; BUCKETS]) {
    let (rows, tail) = values.as_chunks::<BUCKETS>();
    let mut keys = RowKeys::EMPTY;
    keys.fill(first_row, values.len().div_ceil(BUCKETS));
    let mut buckets = [_mm256_setzero_ps(); GROUPS];
    let mut keyed = keys.padded_signs().windows(2).filter_map(<[u64]>::first_chunk).zip(keys.mixes());
    for (row, (signs, &mix)) in rows.iter().zip(&mut keyed) {
        add_row(&mut buckets, row, signs, usize::from(mix));
    }
    if let Some((signs, &mix)) = keyed.next() {
        let mut last = [0.0; BUCKETS];
        last[..tail.len()].copy_from_slice(tail);
        add_row(&mut buckets, &last, signs, usize::from(mix));
    }
    let mut sums = [0.0; BUCKETS];
    for (to, group) in sums.as_chunks_mut::<WIDTH>().0.iter_mut().zip(buckets) {
        // SAFETY: the chunk is as long as a register.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), group) };
    }
    for (total, sum) in totals.iter_mut().zip(sums) {
        *total += f64::from(sum);
    }
}

/// Adds a row to the buckets. The buckets stay in their registers; the row's mask says from which columns each
/// group is filled. `signs[1]` has the row's signs; `signs[0]` may hold anything.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn add_row(buckets: &mut [__m256; GROUPS], row: &[f32; BUCKETS], signs: &[u64; 2], mix: usize) {
    let (group_mask, lane_mask) = (mix / WIDTH % GROUPS, mix % WIDTH);
    // SAFETY: each row of the table has 8 elements.
    let (lane, shift) = unsafe {
        (
            _mm256_loadu_si256(XOR[lane_mask].as_ptr().cast()),
            _mm256_loadu_si256(XOR[lane_mask ^ (WIDTH - 1)].as_ptr().cast()),
        )
    };
    // The table has only values below 8; this tells the compiler, which then does not guard against larger
    // shifts.
    let shift = _mm256_and_si256(shift, _mm256_set1_epi32(7));
    let sign_bit = _mm256_set1_epi32(i32::MIN);
    for (group, bucket) in buckets.iter_mut().enumerate() {
        let from = group ^ group_mask;
        // SAFETY: `from` is below 8, so the load reads 8 of the row's 64 elements. The group's sign bits are byte
        // `from` of the second word; the four bytes that end with that byte lie within `signs`.
        let (elements, bits) = unsafe {
            let elements = _mm256_loadu_ps(row.as_ptr().add(from * WIDTH));
            (elements, signs.as_ptr().cast::<u8>().add(8 + from - 3).cast::<i32>().read_unaligned())
        };
        let elements = _mm256_permutevar8x32_ps(elements, lane);
        // Bit 24 + c is the sign of column c; the shift moves it to the top bit of its lane.
        let bits = _mm256_and_si256(_mm256_sllv_epi32(_mm256_set1_epi32(bits), shift), sign_bit);
        // A set bit means plus: the XOR negates the element, and the subtraction adds it.
        *bucket = _mm256_sub_ps(*bucket, _mm256_xor_ps(elements, _mm256_castsi256_ps(bits)));
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn widen_bf16(from: &[u16], to: &mut [f32]) {
    let (rows, tail) = from.as_chunks::<16>();
    let (to_rows, to_tail) = to.as_chunks_mut::<16>();
    let mut nan = _mm256_setzero_si256();
    for (row, to) in rows.iter().zip(to_rows) {
        // SAFETY: both rows have 16 elements.
        unsafe {
            let bits = _mm256_loadu_si256(row.as_ptr().cast());
            let magnitude = _mm256_and_si256(bits, _mm256_set1_epi16(0x7FFF));
            nan = _mm256_or_si256(nan, _mm256_cmpgt_epi16(magnitude, _mm256_set1_epi16(0x7F80)));
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(row.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(row.as_ptr().add(8).cast()));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), _mm256_slli_epi32::<16>(low));
            _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), _mm256_slli_epi32::<16>(high));
        }
    }
    super::portable::widen_bf16(tail, to_tail);
    if _mm256_testz_si256(nan, nan) == 0 {
        // The shift keeps signalling NaNs, which the portable kernel makes quiet: convert again with that.
        super::portable::widen_bf16(from, to);
    }
}

#[target_feature(enable = "avx2,f16c")]
pub(super) fn widen_f16(from: &[u16], to: &mut [f32]) {
    let (rows, tail) = from.as_chunks::<WIDTH>();
    let (to_rows, to_tail) = to.as_chunks_mut::<WIDTH>();
    for (row, to) in rows.iter().zip(to_rows) {
        // SAFETY: both rows have 8 elements.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), _mm256_cvtph_ps(_mm_loadu_si128(row.as_ptr().cast()))) };
    }
    super::portable::widen_f16(tail, to_tail);
}
