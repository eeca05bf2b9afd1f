//! The kernels in plain Rust. They define the results: the others are held to them, bit for bit.

use super::float::{FloatType, LANES, dot, widen};
use super::packing::{BLOCK, BLOCK_BYTES, QUARTERS, RUN, TQ1_BYTES, shift, unpack_base3};

/// Rows and tokens of a tile, which is what is computed at once when there are several tokens.
pub(super) const TILE: usize = 4;

/// The sums of the codes of packed rows times one token's activations. A row has `row_bytes` bytes in steps of `step`, of
/// which the first 64 hold 256 codes; the last step may be half of one. `MSB`: the first codes are in the highest bits.
/// The activations are in the order of [`super::activations::interleave`], with zeros behind them up to a whole step.
pub(super) fn blocks<const MSB: bool>(
    row_bytes: usize,
    step: usize,
    data: &[u8],
    activations: &[i8],
    sums: &mut [i32],
) {
    for (row, sum) in data.chunks_exact(row_bytes).zip(sums) {
        *sum = 0;
        for (bytes, activations) in row.chunks(step).zip(activations.chunks(BLOCK)) {
            let bytes = &bytes[..bytes.len().min(BLOCK_BYTES)];
            for (group, activations) in activations.chunks(2 * RUN).enumerate() {
                let codes = bytes.iter().map(|byte| byte >> shift::<MSB>(group) & 0b11);
                *sum += codes.zip(activations).map(|(code, a)| i32::from(code) * i32::from(*a)).sum::<i32>();
            }
        }
    }
}

/// The same for rows that share bytes: bits 2i and 2i + 1 of the bytes of a row are a row of the i-th quarter. A row of
/// bytes has `columns`.
pub(super) fn quarters(columns: usize, data: &[u8], activations: &[i8], mut sums: [&mut [i32]; QUARTERS]) {
    for (row, bytes) in data.chunks_exact(columns).enumerate() {
        for (quarter, sums) in sums.iter_mut().enumerate() {
            let codes = bytes.iter().map(|byte| byte >> (2 * quarter) & 0b11);
            sums[row] = codes.zip(activations).map(|(code, a)| i32::from(code) * i32::from(*a)).sum();
        }
    }
}

/// The same for rows in base 3: blocks of 256 values in 54 bytes.
pub(super) fn base3(row_bytes: usize, data: &[u8], activations: &[i8], sums: &mut [i32]) {
    let mut codes = [0; BLOCK];
    for (row, sum) in data.chunks_exact(row_bytes).zip(sums) {
        *sum = 0;
        for (block, activations) in row.chunks_exact(TQ1_BYTES).zip(activations.chunks_exact(BLOCK)) {
            unpack_base3(block, &mut codes);
            *sum += dot_codes(&codes, activations);
        }
    }
}

/// The sum of codes times activations.
pub(super) fn dot_codes(codes: &[u8], activations: &[i8]) -> i32 {
    codes.iter().zip(activations).map(|(code, a)| i32::from(*code) * i32::from(*a)).sum()
}

/// Sums of codes times activations: `codes` are four rows, `activations` one to four tokens, both `stride` apart, which is
/// a multiple of 256. `sums[row][token]`; tokens that are not there stay as they are.
pub(super) fn tile(codes: &[u8], activations: &[i8], stride: usize, sums: &mut [[i32; TILE]; TILE]) {
    for (codes, sums) in codes.chunks_exact(stride).zip(sums) {
        for (activations, sum) in activations.chunks_exact(stride).zip(sums) {
            *sum = dot_codes(codes, activations);
        }
    }
}

/// The dot products of stored rows, `stride` bytes apart, with `x`, in the order of [`super::float`].
pub(super) fn float_rows(dtype: FloatType, data: &[u8], stride: usize, x: &[f32], out: &mut [f32]) {
    let mut row = vec![0.0; x.len()];
    for (index, out) in out.iter_mut().enumerate() {
        widen(dtype, &data[index * stride..], &mut row);
        *out = dot(&row, x);
    }
}

/// The dot products of rows of floats, which begin `stride` apart, with `x`.
pub(super) fn dot_rows(rows: &[f32], stride: usize, x: &[f32], out: &mut [f32]) {
    for (row, out) in rows.chunks(stride).zip(out) {
        *out = dot(&row[..x.len()], x);
    }
}

/// The dot products of four rows and one to four tokens of floats, both `stride` apart, which is a multiple of 16.
/// `sums[row][token]`.
pub(super) fn float_tile(rows: &[f32], tokens: &[f32], stride: usize, sums: &mut [[f32; TILE]; TILE]) {
    for (row, sums) in rows.chunks_exact(stride).zip(sums) {
        for (token, sum) in tokens.chunks_exact(stride).zip(sums) {
            *sum = dot(row, token);
        }
    }
}

/// `out[d] += weights[j] * rows[j * stride + d]`, `j` in order.
#[allow(clippy::inline_always)] // compiled once for each set of instructions
#[inline(always)]
pub(super) fn weighted_sum(weights: &[f32], rows: &[f32], stride: usize, out: &mut [f32]) {
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    let whole = chunks.len() * LANES;
    for (chunk, out) in chunks.iter_mut().enumerate() {
        // A copy, so that it stays in registers.
        let mut sums = *out;
        for (weight, row) in weights.iter().zip(rows.chunks(stride)) {
            if let Some(row) = row[chunk * LANES..].first_chunk::<LANES>() {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += weight * x;
                }
            }
        }
        *out = sums;
    }
    for (d, out) in rest.iter_mut().enumerate() {
        for (weight, row) in weights.iter().zip(rows.chunks(stride)) {
            *out += weight * row[whole + d];
        }
    }
}
