//! The integer kernels for AVX2. The same sums as in [`super::portable`], where each function is described.
//!
//! `unsafe` here: loads through pointers. Each function checks the lengths of its slices first.
//!
//! Codes times activations are added in pairs to i16: at most 2 * 2 * 128 a pair, so that 63 of them fit, and are added to
//! i32 before that.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m128i, __m256i, _mm_add_epi8, _mm_add_epi32, _mm_cvtsi32_si128, _mm_cvtsi128_si32, _mm_loadu_si128,
    _mm_shuffle_epi32, _mm_unpacklo_epi32, _mm_unpacklo_epi64, _mm256_add_epi8, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_avg_epu8, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_setzero_si256, _mm256_srli_epi16, _mm256_subs_epu8,
};

use super::packing::{BLOCK, BLOCK_BYTES, FIVES, QUARTERS, RUN, TQ1_BYTES};
use super::portable::TILE;
use super::prefetch::ahead;

/// Bytes of a vector.
const WIDTH: usize = 32;

/// Runs of 32 bytes with four groups of codes whose pairs fit an i16: 8 * 4 * 512.
const RUNS: usize = 8;

/// Steps of one pair each that fit an i16.
const STEPS: usize = 32;

/// Loads a vector.
///
/// # Safety
///
/// 32 bytes from `from` on are readable.
#[inline]
#[target_feature(enable = "avx2")]
unsafe fn load(from: *const u8) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// The i16 in pairs, as i32.
#[inline]
#[target_feature(enable = "avx2")]
fn pairs(sums: __m256i) -> __m256i {
    _mm256_madd_epi16(sums, _mm256_set1_epi16(1))
}

/// The sum of the eight i32.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn horizontal_sum(x: __m256i) -> i32 {
    let four = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

/// The four groups of codes in 32 bytes, that of the highest bits first.
#[inline]
#[target_feature(enable = "avx2")]
fn groups(bytes: __m256i) -> [__m256i; QUARTERS] {
    let mask = _mm256_set1_epi8(0b11);
    [
        _mm256_and_si256(_mm256_srli_epi16::<6>(bytes), mask),
        _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), mask),
        _mm256_and_si256(_mm256_srli_epi16::<2>(bytes), mask),
        _mm256_and_si256(bytes, mask),
    ]
}

/// See [`super::portable::blocks`].
#[target_feature(enable = "avx2")]
pub(super) fn blocks<const MSB: bool>(
    row_bytes: usize,
    step: usize,
    data: &[u8],
    activations: &[i8],
    sums: &mut [i32],
) {
    assert!(step >= BLOCK_BYTES && activations.len() >= row_bytes.div_ceil(step) * BLOCK);
    // A step has two runs of 32 bytes; the last one may have one.
    let runs = row_bytes / step * 2 + usize::from(row_bytes % step >= RUN);
    for (row, sum) in data.chunks_exact(row_bytes).zip(sums) {
        let mut total = _mm256_setzero_si256();
        let mut run = 0;
        while run < runs {
            let mut few = _mm256_setzero_si256();
            let end = runs.min(run + RUNS);
            while run < end {
                let (at, half) = (run / 2, RUN * (run % 2));
                if half == 0 {
                    ahead(row.as_ptr().wrapping_add(step * at), 1);
                }
                // SAFETY: the run is within the row, as counted above.
                let codes = groups(unsafe { load(row.as_ptr().add(step * at + half)) });
                let mut products = [_mm256_setzero_si256(); QUARTERS];
                for (place, codes) in codes.into_iter().enumerate() {
                    let group = if MSB { place } else { QUARTERS - 1 - place };
                    // SAFETY: there are 256 activations for each step.
                    let values =
                        unsafe { load(activations.as_ptr().cast::<u8>().add(BLOCK * at + 2 * RUN * group + half)) };
                    products[place] = _mm256_maddubs_epi16(codes, values);
                }
                let [a, b, c, d] = products;
                few = _mm256_add_epi16(few, _mm256_add_epi16(_mm256_add_epi16(a, b), _mm256_add_epi16(c, d)));
                run += 1;
            }
            total = _mm256_add_epi32(total, pairs(few));
        }
        *sum = horizontal_sum(total);
    }
}

/// See [`super::portable::quarters`].
#[target_feature(enable = "avx2")]
pub(super) fn quarters(columns: usize, data: &[u8], activations: &[i8], mut sums: [&mut [i32]; QUARTERS]) {
    assert!(activations.len() >= columns.next_multiple_of(WIDTH));
    let whole = columns / WIDTH * WIDTH;
    for (index, row) in data.chunks_exact(columns).enumerate() {
        let mut last = [0; WIDTH];
        last[..columns - whole].copy_from_slice(&row[whole..]);
        let mut totals = [_mm256_setzero_si256(); QUARTERS];
        let mut at = 0;
        while at < columns {
            let mut few = [_mm256_setzero_si256(); QUARTERS];
            let end = columns.min(at + STEPS * WIDTH);
            while at < end {
                let bytes = if at < whole { row[at..].as_ptr() } else { last.as_ptr() };
                if at.is_multiple_of(2 * WIDTH) {
                    ahead(row.as_ptr().wrapping_add(at), 1);
                }
                // SAFETY: 32 bytes from here on are within the row or its last part; the activations have zeros behind them.
                let (bytes, values) = unsafe { (load(bytes), load(activations.as_ptr().cast::<u8>().add(at))) };
                for (few, codes) in few.iter_mut().zip(groups(bytes)) {
                    *few = _mm256_add_epi16(*few, _mm256_maddubs_epi16(codes, values));
                }
                at += WIDTH;
            }
            for (total, few) in totals.iter_mut().zip(few) {
                *total = _mm256_add_epi32(*total, pairs(few));
            }
        }
        for (sums, total) in sums.iter_mut().rev().zip(totals) {
            sums[index] = horizontal_sum(total);
        }
    }
}

/// See [`super::portable::base3`].
#[target_feature(enable = "avx2")]
pub(super) fn base3(row_bytes: usize, data: &[u8], activations: &[i8], sums: &mut [i32]) {
    let blocks = row_bytes / TQ1_BYTES;
    assert!(activations.len() >= blocks * BLOCK);
    for (row, sum) in data.chunks_exact(row_bytes).zip(sums) {
        let mut total = _mm256_setzero_si256();
        for (block, values) in row.chunks_exact(TQ1_BYTES).zip(activations.chunks_exact(BLOCK)) {
            let values = values.as_ptr().cast::<u8>();
            ahead(block.as_ptr(), 1);
            let (mut long, short, fours) = parts(block);
            let mut few = _mm256_setzero_si256();
            for trit in 0..5 {
                // SAFETY: 5 times 32 of the 256 activations.
                let values = unsafe { load(values.add(32 * trit)) };
                few = _mm256_add_epi16(few, _mm256_maddubs_epi16(trits(long), values));
                long = _mm256_add_epi8(long, _mm256_add_epi8(long, long));
            }
            for (pair, codes) in short_trits(short, fours).into_iter().enumerate() {
                // SAFETY: 3 times 32 activations after the first 160.
                let values = unsafe { load(values.add(160 + 32 * pair)) };
                few = _mm256_add_epi16(few, _mm256_maddubs_epi16(trits(codes), values));
            }
            total = _mm256_add_epi32(total, pairs(few));
        }
        *sum = horizontal_sum(total);
    }
}

/// The 32 and 16 bytes of five trits and the 4 bytes of four in a block of TQ1_0.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn parts(block: &[u8]) -> (__m256i, __m128i, i32) {
    assert!(block.len() >= TQ1_BYTES);
    let fours = [block[48], block[49], block[50], block[51]];
    // SAFETY: 32 and 16 bytes of the 54.
    let (long, short) = unsafe { (load(block.as_ptr()), _mm_loadu_si128(block.as_ptr().add(FIVES.0).cast())) };
    (long, short, i32::from_le_bytes(fours))
}

/// The first trits of bytes: `byte * 3 >> 8`. Two averages of bytes are three quarters of it; taking 1 away first makes up
/// for their rounding up.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn trits(bytes: __m256i) -> __m256i {
    let below = _mm256_subs_epu8(bytes, _mm256_set1_epi8(1));
    let three_quarters = _mm256_avg_epu8(below, _mm256_avg_epu8(below, _mm256_setzero_si256()));
    _mm256_and_si256(_mm256_srli_epi16::<6>(three_quarters), _mm256_set1_epi8(0b11))
}

/// The last 96 values of a block of TQ1_0, as bytes whose first trit is the value's code: five times 16, then four times 4.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn short_trits(short: __m128i, fours: i32) -> [__m256i; 3] {
    let second = tripled(short);
    let third = tripled(second);
    let fourth = tripled(third);
    let fifth = tripled(fourth);
    let a = _mm_cvtsi32_si128(fours);
    let b = tripled(a);
    let c = tripled(b);
    let d = tripled(c);
    let fours = _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
    [_mm256_set_m128i(second, short), _mm256_set_m128i(fourth, third), _mm256_set_m128i(fours, fifth)]
}

#[inline]
#[target_feature(enable = "avx2")]
fn tripled(bytes: __m128i) -> __m128i {
    _mm_add_epi8(bytes, _mm_add_epi8(bytes, bytes))
}

/// See [`super::portable::tile`].
#[target_feature(enable = "avx2")]
pub(super) fn tile(codes: &[u8], activations: &[i8], stride: usize, sums: &mut [[i32; TILE]; TILE]) {
    let tokens = activations.len() / stride;
    for row in (0..TILE).step_by(2) {
        let codes = &codes[row * stride..];
        for token in (0..tokens).step_by(2) {
            let activations = &activations[token * stride..];
            let some = if tokens - token == 1 {
                let [[a], [b]] = tile_of::<1>(codes, activations, stride);
                [[a, 0], [b, 0]]
            } else {
                tile_of::<2>(codes, activations, stride)
            };
            for (sums, some) in sums[row..].iter_mut().zip(some) {
                let wanted = (tokens - token).min(2);
                sums[token..][..wanted].copy_from_slice(&some[..wanted]);
            }
        }
    }
}

/// Two rows of codes times some tokens.
#[inline]
#[target_feature(enable = "avx2")]
fn tile_of<const TOKENS: usize>(codes: &[u8], activations: &[i8], stride: usize) -> [[i32; TOKENS]; 2] {
    assert!(stride.is_multiple_of(WIDTH) && codes.len() >= 2 * stride && activations.len() >= TOKENS * stride);
    let (codes, activations) = (codes.as_ptr(), activations.as_ptr().cast::<u8>());
    let mut totals = [[_mm256_setzero_si256(); TOKENS]; 2];
    let mut at = 0;
    while at < stride {
        let mut few = [[_mm256_setzero_si256(); TOKENS]; 2];
        let end = stride.min(at + STEPS * WIDTH);
        while at < end {
            // SAFETY: there are two rows of codes, and `at` is a multiple of 32 within the stride.
            let rows = unsafe { [load(codes.add(at)), load(codes.add(stride + at))] };
            for token in 0..TOKENS {
                // SAFETY: there are as many tokens, and `at` is as above.
                let values = unsafe { load(activations.add(token * stride + at)) };
                for (few, row) in few.iter_mut().zip(rows) {
                    few[token] = _mm256_add_epi16(few[token], _mm256_maddubs_epi16(row, values));
                }
            }
            at += WIDTH;
        }
        for (totals, few) in totals.iter_mut().zip(few) {
            for (total, few) in totals.iter_mut().zip(few) {
                *total = _mm256_add_epi32(*total, pairs(few));
            }
        }
    }
    let mut sums = [[0; TOKENS]; 2];
    for (sums, totals) in sums.iter_mut().zip(totals) {
        for (sum, total) in sums.iter_mut().zip(totals) {
            *sum = horizontal_sum(total);
        }
    }
    sums
}
