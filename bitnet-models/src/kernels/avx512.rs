//! The integer kernels for AVX-512 with VNNI. The same sums as in [`super::portable`], where each function is described.
//!
//! `unsafe` here: loads through pointers. Each function checks the lengths of its slices first.
//!
//! A code is multiplied where it is in its byte: what is left after masking is the code times 1, 4, 16 or 64, and the sums
//! are shifted down once at the end. No sum of [`super::packing::MOST_COLUMNS`] products leaves an i32: a lane of i32 takes
//! 4 of the 64 products of a step, each at most 128 * 128.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm_add_epi32, _mm_storeu_si128, _mm256_add_epi8, _mm256_add_epi32, _mm256_castsi256_si128,
    _mm256_dpbusd_epi32, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_setzero_si256, _mm512_add_epi32,
    _mm512_and_si512, _mm512_castsi512_si256, _mm512_dpbusd_epi32, _mm512_extracti64x4_epi64, _mm512_loadu_si512,
    _mm512_maskz_loadu_epi8, _mm512_reduce_add_epi32, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_srai_epi32,
    _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::array;

use super::avx2;
use super::packing::{BLOCK, BLOCK_BYTES, QUARTERS, TQ1_BYTES, shift};
use super::portable::TILE;
use super::prefetch::{STREAMS, ahead};

/// Bytes of a vector.
const WIDTH: usize = 64;

/// Loads a vector.
///
/// # Safety
///
/// 64 bytes from `from` on are readable.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn load(from: *const u8) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_loadu_si512(from.cast()) }
}

/// See [`super::portable::blocks`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn blocks<const MSB: bool>(
    row_bytes: usize,
    step: usize,
    data: &[u8],
    activations: &[i8],
    sums: &mut [i32],
) {
    assert!(step >= BLOCK_BYTES && activations.len() >= row_bytes.div_ceil(step) * BLOCK);
    let far = sums.len() / STREAMS;
    let row = |index: usize| &data[index * row_bytes..][..row_bytes];
    for index in 0..far {
        let rows = array::from_fn(|stream| row(index + stream * far));
        for (stream, sum) in some_rows::<MSB, STREAMS>(rows, step, activations).into_iter().enumerate() {
            sums[index + stream * far] = sum;
        }
    }
    for (index, sum) in sums.iter_mut().enumerate().skip(STREAMS * far) {
        [*sum] = some_rows::<MSB, 1>([row(index)], step, activations);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn some_rows<const MSB: bool, const ROWS: usize>(rows: [&[u8]; ROWS], step: usize, activations: &[i8]) -> [i32; ROWS] {
    let masks = masks::<MSB>();
    let mut sums = [[_mm512_setzero_si512(); QUARTERS]; ROWS];
    let steps = rows[0].len() / step;
    let activations = activations.as_ptr().cast::<u8>();
    for at in 0..steps {
        for row in rows {
            ahead(row.as_ptr().wrapping_add(step * at), 1);
        }
        for group in 0..QUARTERS {
            // SAFETY: `blocks` has checked that there are 256 activations for each step.
            let values = unsafe { load(activations.add(BLOCK * at + WIDTH * group)) };
            for (sums, row) in sums.iter_mut().zip(rows) {
                // SAFETY: the step has at least 64 bytes and is within the row.
                let bytes = unsafe { load(row.as_ptr().add(step * at)) };
                sums[group] = _mm512_dpbusd_epi32(sums[group], _mm512_and_si512(bytes, masks[group]), values);
            }
        }
    }
    // Half a step at the end: 128 codes in 32 bytes.
    let half = rows[0].len() % step;
    if half > 0 {
        let readable = (1u64 << half.min(WIDTH / 2)) - 1;
        for group in 0..QUARTERS {
            // SAFETY: as above, the number of steps was rounded up.
            let values = unsafe { load(activations.add(BLOCK * steps + WIDTH * group)) };
            for (sums, row) in sums.iter_mut().zip(rows) {
                // SAFETY: only the bytes that are left in the row are read.
                let bytes = unsafe { _mm512_maskz_loadu_epi8(readable, row.as_ptr().add(step * steps).cast()) };
                sums[group] = _mm512_dpbusd_epi32(sums[group], _mm512_and_si512(bytes, masks[group]), values);
            }
        }
    }
    let mut total = [0; ROWS];
    for (total, [a, b, c, d]) in total.iter_mut().zip(sums) {
        let [a, b, c, d] = if MSB { [d, c, b, a] } else { [a, b, c, d] };
        *total = _mm512_reduce_add_epi32(_mm512_add_epi32(
            _mm512_add_epi32(a, _mm512_srai_epi32::<2>(b)),
            _mm512_add_epi32(_mm512_srai_epi32::<4>(c), _mm512_srai_epi32::<6>(d)),
        ));
    }
    total
}

/// The bits of each group's codes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn masks<const MSB: bool>() -> [__m512i; QUARTERS] {
    let mut masks = [_mm512_setzero_si512(); QUARTERS];
    for (group, mask) in masks.iter_mut().enumerate() {
        *mask = _mm512_set1_epi8((0b11u8 << shift::<MSB>(group)).cast_signed());
    }
    masks
}

/// See [`super::portable::quarters`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn quarters(columns: usize, data: &[u8], activations: &[i8], mut sums: [&mut [i32]; QUARTERS]) {
    assert!(activations.len() >= columns.next_multiple_of(WIDTH));
    let count = data.len() / columns;
    let far = count / STREAMS;
    let row = |index: usize| &data[index * columns..][..columns];
    let mut put = |index: usize, row: [i32; QUARTERS]| {
        for (sums, sum) in sums.iter_mut().zip(row) {
            sums[index] = sum;
        }
    };
    for index in 0..far {
        let rows = array::from_fn(|stream| row(index + stream * far));
        for (stream, row) in some_quarters::<STREAMS>(rows, activations).into_iter().enumerate() {
            put(index + stream * far, row);
        }
    }
    for index in STREAMS * far..count {
        let [sums] = some_quarters::<1>([row(index)], activations);
        put(index, sums);
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn some_quarters<const ROWS: usize>(rows: [&[u8]; ROWS], activations: &[i8]) -> [[i32; QUARTERS]; ROWS] {
    let masks = masks::<false>();
    let columns = rows[0].len();
    let activations = activations.as_ptr().cast::<u8>();
    let mut totals = [[_mm512_setzero_si512(); QUARTERS]; ROWS];
    let mut at = 0;
    while at < columns {
        // SAFETY: `quarters` has checked that there are activations up to a whole vector, zeros at the end.
        let values = unsafe { load(activations.add(at)) };
        let left = columns - at;
        for (totals, row) in totals.iter_mut().zip(rows) {
            let from = row.as_ptr().wrapping_add(at);
            ahead(from, 1);
            let bytes = if left >= WIDTH {
                // SAFETY: so many bytes are left in the row.
                unsafe { load(from) }
            } else {
                // SAFETY: only the bytes that are left in the row are read.
                unsafe { _mm512_maskz_loadu_epi8((1 << left) - 1, from.cast()) }
            };
            for (total, mask) in totals.iter_mut().zip(masks) {
                *total = _mm512_dpbusd_epi32(*total, _mm512_and_si512(bytes, mask), values);
            }
        }
        at += WIDTH;
    }
    let mut sums = [[0; QUARTERS]; ROWS];
    for (sums, [a, b, c, d]) in sums.iter_mut().zip(totals) {
        *sums = [
            _mm512_reduce_add_epi32(a),
            _mm512_reduce_add_epi32(_mm512_srai_epi32::<2>(b)),
            _mm512_reduce_add_epi32(_mm512_srai_epi32::<4>(c)),
            _mm512_reduce_add_epi32(_mm512_srai_epi32::<6>(d)),
        ];
    }
    sums
}

/// See [`super::portable::base3`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
pub(super) fn base3(row_bytes: usize, data: &[u8], activations: &[i8], sums: &mut [i32]) {
    let blocks = row_bytes / TQ1_BYTES;
    assert!(activations.len() >= blocks * BLOCK);
    for (row, sum) in data.chunks_exact(row_bytes).zip(sums) {
        let mut totals = [_mm256_setzero_si256(); 2];
        for (block, values) in row.chunks_exact(TQ1_BYTES).zip(activations.chunks_exact(BLOCK)) {
            let values = values.as_ptr();
            ahead(block.as_ptr(), 1);
            let (mut long, short, fours) = avx2::parts(block);
            for trit in 0..5 {
                // SAFETY: 5 times 32 of the 256 activations.
                let values = unsafe { _mm256_loadu_si256(values.add(32 * trit).cast()) };
                totals[trit % 2] = _mm256_dpbusd_epi32(totals[trit % 2], avx2::trits(long), values);
                long = _mm256_add_epi8(long, _mm256_add_epi8(long, long));
            }
            for (pair, codes) in avx2::short_trits(short, fours).into_iter().enumerate() {
                // SAFETY: 3 times 32 activations after the first 160.
                let values = unsafe { _mm256_loadu_si256(values.add(160 + 32 * pair).cast()) };
                totals[pair % 2] = _mm256_dpbusd_epi32(totals[pair % 2], avx2::trits(codes), values);
            }
        }
        let total = _mm256_add_epi32(totals[0], totals[1]);
        *sum = avx2::horizontal_sum(total);
    }
}

/// See [`super::portable::tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn tile(codes: &[u8], activations: &[i8], stride: usize, sums: &mut [[i32; TILE]; TILE]) {
    match activations.len() / stride {
        1 => tile_of::<1>(codes, activations, stride, sums),
        2 => tile_of::<2>(codes, activations, stride, sums),
        3 => tile_of::<3>(codes, activations, stride, sums),
        _ => tile_of::<4>(codes, activations, stride, sums),
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn tile_of<const TOKENS: usize>(codes: &[u8], activations: &[i8], stride: usize, sums: &mut [[i32; TILE]; TILE]) {
    assert!(stride.is_multiple_of(WIDTH) && codes.len() >= TILE * stride && activations.len() >= TOKENS * stride);
    let (codes, activations) = (codes.as_ptr(), activations.as_ptr().cast::<u8>());
    let mut totals = [[_mm512_setzero_si512(); TOKENS]; TILE];
    let mut at = 0;
    while at < stride {
        let mut rows = [_mm512_setzero_si512(); TILE];
        for (row, bytes) in rows.iter_mut().enumerate() {
            // SAFETY: there are four rows of codes, and `at` is a multiple of 64 within the stride.
            *bytes = unsafe { load(codes.add(row * stride + at)) };
        }
        for token in 0..TOKENS {
            // SAFETY: there are as many tokens, and `at` is as above.
            let values = unsafe { load(activations.add(token * stride + at)) };
            for (totals, bytes) in totals.iter_mut().zip(rows) {
                totals[token] = _mm512_dpbusd_epi32(totals[token], bytes, values);
            }
        }
        at += WIDTH;
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        let mut four = [_mm512_setzero_si512(); TILE];
        four[..TOKENS].copy_from_slice(&totals);
        let four = four_sums(four);
        sums[..TOKENS].copy_from_slice(&four[..TOKENS]);
    }
}

/// The sum of the i32 of each vector.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2")]
fn four_sums([a, b, c, d]: [__m512i; 4]) -> [i32; 4] {
    // Every 128 bits: sums of pairs of a and b side by side, then of all four.
    let ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    let all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
    let quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
    let mut sums = [0; 4];
    // SAFETY: there is room for the four.
    unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), quarter) };
    sums
}
