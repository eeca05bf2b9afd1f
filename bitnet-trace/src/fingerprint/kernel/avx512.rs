//! AVX-512 F, BW, DQ and VL, and POPCNT.
//!
//! `unsafe` for loads and stores through pointers, which the intrinsics take, and which let the
//! conversions read memory directly. Every function here may be called only on a processor with
//! the features that it names.
#![allow(unsafe_code)]
#![allow(clippy::cast_ptr_alignment)] // the intrinsics used are the unaligned ones
#![allow(clippy::wildcard_imports)] // the names have their own prefix

use std::arch::x86_64::*;

use super::{SubBlock, xor_table};
use crate::fingerprint::sketch::{BUCKETS, RowKeys};

/// Elements in a register.
const WIDTH: usize = 16;

/// Sum, squares and extremes by lane. A register of f32 holds a row of lanes.
struct Lanes {
    sum: [__m512d; 2],
    squares: [__m512d; 2],
    min: __m512,
    max: __m512,
    /// Smallest magnitude, to tell whether there is a zero to be counted.
    nearest: __m512,
}

/// `vrangeps`: of two numbers the smaller magnitude, without its sign.
const SMALLER_MAGNITUDE: i32 = 0b1010;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
pub(super) fn statistics(values: &[f32]) -> SubBlock {
    let mut lanes = Lanes {
        sum: [_mm512_setzero_pd(); 2],
        squares: [_mm512_setzero_pd(); 2],
        min: _mm512_set1_ps(f32::INFINITY),
        max: _mm512_set1_ps(f32::NEG_INFINITY),
        nearest: _mm512_set1_ps(f32::INFINITY),
    };
    let (rows, tail) = values.as_chunks::<WIDTH>();
    for row in rows {
        let from = row.as_ptr();
        // SAFETY: the row has 16 elements; 8 are read from its begin and 8 from its middle.
        let (low, high, all) = unsafe {
            let low = _mm512_cvtps_pd(_mm256_loadu_ps(from));
            let high = _mm512_cvtps_pd(_mm256_loadu_ps(from.add(8)));
            (low, high, _mm512_loadu_ps(from))
        };
        add(&mut lanes, low, high);
        lanes.min = _mm512_min_ps(lanes.min, all);
        lanes.max = _mm512_max_ps(lanes.max, all);
        lanes.nearest = _mm512_range_ps::<SMALLER_MAGNITUDE>(lanes.nearest, all);
    }
    if !tail.is_empty() {
        let mask = (1u16 << tail.len()) - 1;
        // SAFETY: elements beyond the tail are masked off, and masked elements are not accessed.
        let all = unsafe { _mm512_maskz_loadu_ps(mask, tail.as_ptr()) };
        add(
            &mut lanes,
            _mm512_cvtps_pd(_mm512_castps512_ps256(all)),
            _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(all)),
        );
        lanes.min = _mm512_mask_min_ps(lanes.min, mask, lanes.min, all);
        lanes.max = _mm512_mask_max_ps(lanes.max, mask, lanes.max, all);
        lanes.nearest = _mm512_mask_range_ps::<SMALLER_MAGNITUDE>(lanes.nearest, mask, lanes.nearest, all);
    }
    SubBlock {
        sum: fold(lanes.sum),
        sum_of_squares: fold(lanes.squares),
        min: _mm512_reduce_min_ps(lanes.min),
        max: _mm512_reduce_max_ps(lanes.max),
        zeros: if _mm512_reduce_min_ps(lanes.nearest) == 0.0 { zeros(values) } else { 0 },
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
fn add(lanes: &mut Lanes, low: __m512d, high: __m512d) {
    lanes.sum = [_mm512_add_pd(lanes.sum[0], low), _mm512_add_pd(lanes.sum[1], high)];
    // The square of an f32 is exact in f64: fused or not, the bits are the same.
    lanes.squares = [_mm512_fmadd_pd(low, low, lanes.squares[0]), _mm512_fmadd_pd(high, high, lanes.squares[1])];
}

/// Zeros of either sign. Apart, because most sub-blocks have none.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
fn zeros(values: &[f32]) -> usize {
    let (rows, tail) = values.as_chunks::<WIDTH>();
    let in_row = |row: &[f32; WIDTH]| {
        // SAFETY: the row has 16 elements.
        let row = unsafe { _mm512_loadu_ps(row.as_ptr()) };
        _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(row, _mm512_setzero_ps()).count_ones() as usize
    };
    rows.iter().map(in_row).sum::<usize>() + tail.iter().filter(|value| **value == 0.0).count()
}

/// Lane j takes lane j+8, then j+4, j+2, j+1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
fn fold([low, high]: [__m512d; 2]) -> f64 {
    let eight = _mm512_add_pd(low, high);
    let four = _mm256_add_pd(_mm512_castpd512_pd256(eight), _mm512_extractf64x4_pd::<1>(eight));
    let two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd::<1>(four));
    _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)))
}

/// Lane XOR m in every lane of `XOR[m]`.
static XOR: [[u32; WIDTH]; WIDTH] = xor_table();

/// Groups of columns, each a register of buckets.
const GROUPS: usize = BUCKETS / WIDTH;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
pub(super) fn sketch(values: &[f32], first_row: u64, totals: &mut [f64; BUCKETS]) {
    let (rows, tail) = values.as_chunks::<BUCKETS>();
    let keys = RowKeys::new(first_row, values.len().div_ceil(BUCKETS));
    let mut buckets = [_mm512_setzero_ps(); GROUPS];
    let mut keyed = keys.padded_signs().windows(2).zip(keys.mixes());
    for (row, (signs, &mix)) in rows.iter().zip(&mut keyed) {
        add_row(&mut buckets, row, signs, usize::from(mix));
    }
    if let Some((signs, &mix)) = keyed.next() {
        let mut last = [0.0; BUCKETS];
        last[..tail.len()].copy_from_slice(tail);
        add_row(&mut buckets, &last, signs, usize::from(mix));
    }
    for (group, buckets) in buckets.into_iter().enumerate() {
        let halves = [_mm512_castps512_ps256(buckets), _mm512_extractf32x8_ps::<1>(buckets)];
        for (half, sums) in halves.into_iter().enumerate() {
            // SAFETY: 8 of the 64 totals, from a multiple of 8.
            unsafe {
                let total = totals.as_mut_ptr().add(group * WIDTH + half * 8);
                _mm512_storeu_pd(total, _mm512_add_pd(_mm512_loadu_pd(total), _mm512_cvtps_pd(sums)));
            }
        }
    }
}

/// The buckets stay where they are, in registers; each takes its columns from wherever the row's
/// mask says they are. `signs` are the row's, after eight bytes that mean nothing.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
fn add_row(buckets: &mut [__m512; GROUPS], row: &[f32; BUCKETS], signs: &[u64], mix: usize) {
    debug_assert_eq!(signs.len(), 2);
    let (group_mask, lane_mask) = (mix / WIDTH % GROUPS, mix % WIDTH);
    // SAFETY: rows of the table have 16 elements.
    let (lane, shift) = unsafe {
        (
            _mm512_loadu_si512(XOR[lane_mask].as_ptr().cast()),
            _mm512_loadu_si512(XOR[lane_mask ^ (WIDTH - 1)].as_ptr().cast()),
        )
    };
    let sign_bit = _mm512_set1_epi32(i32::MIN);
    for (group, bucket) in buckets.iter_mut().enumerate() {
        let from = group ^ group_mask;
        // SAFETY: `from` is below 4: 16 of the row's 64 elements. The group's sign bits are the 16
        // from byte 2 * from of the second word; the four bytes that end with them are in bounds.
        let (elements, bits) = unsafe {
            let elements = _mm512_loadu_ps(row.as_ptr().add(from * WIDTH));
            (elements, signs.as_ptr().cast::<u8>().add(8 + 2 * from - 2).cast::<i32>().read_unaligned())
        };
        let elements = _mm512_castps_si512(_mm512_permutexvar_ps(lane, elements));
        // Bit 16 + c is the sign of column c: to the top of its lane with it.
        let bits = _mm512_sllv_epi32(_mm512_set1_epi32(bits), shift);
        // elements XOR (bits AND sign_bit): a set bit negates, subtracted it is a plus.
        let negated = _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0x78>(elements, bits, sign_bit));
        *bucket = _mm512_sub_ps(*bucket, negated);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
pub(super) fn widen_bf16(from: &[u16], to: &mut [f32]) {
    let (rows, tail) = from.as_chunks::<WIDTH>();
    let (to_rows, to_tail) = to.as_chunks_mut::<WIDTH>();
    let mut nan = 0;
    for (row, to) in rows.iter().zip(to_rows) {
        // SAFETY: both rows have 16 elements.
        unsafe {
            let bits = _mm256_loadu_si256(row.as_ptr().cast());
            let magnitude = _mm256_and_si256(bits, _mm256_set1_epi16(0x7FFF));
            nan |= _mm256_cmpgt_epi16_mask(magnitude, _mm256_set1_epi16(0x7F80));
            _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)));
        }
    }
    super::portable::widen_bf16(tail, to_tail);
    if nan != 0 {
        // The shift leaves signalling NaNs signalling.
        super::portable::widen_bf16(from, to);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
pub(super) fn widen_f16(from: &[u16], to: &mut [f32]) {
    let (rows, tail) = from.as_chunks::<WIDTH>();
    let (to_rows, to_tail) = to.as_chunks_mut::<WIDTH>();
    for (row, to) in rows.iter().zip(to_rows) {
        // SAFETY: both rows have 16 elements.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(row.as_ptr().cast()))) };
    }
    super::portable::widen_f16(tail, to_tail);
}
