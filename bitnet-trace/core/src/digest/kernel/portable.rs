//! The kernel in plain Rust, written so that the compiler can vectorise it for any target.

use super::{LANES, SubBlock};
use crate::digest::constants::BUCKETS;
use crate::digest::float16::{bf16_to_f32, f16_to_f32};
use crate::digest::sketch::RowKeys;

pub(super) fn statistics(values: &[f32]) -> SubBlock {
    let mut sum = [0.0; LANES];
    let mut squares = [0.0; LANES];
    let (rows, tail) = values.as_chunks::<LANES>();
    for row in rows {
        add(&mut sum, &mut squares, row);
    }
    let mut last = [0.0; LANES];
    last[..tail.len()].copy_from_slice(tail);
    add(&mut sum, &mut squares, &last);

    // One pass for each: the compiler does not vectorise one loop for all of them.
    let min = extreme(values, f32::INFINITY, |a, b| if b < a { b } else { a });
    let max = extreme(values, f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    let zeros = values.iter().map(|&value| u32::from(value == 0.0)).sum::<u32>() as usize;
    SubBlock { sum: fold(sum), sum_of_squares: fold(squares), min, max, zeros }
}

#[inline(always)]
fn add(sum: &mut [f64; LANES], squares: &mut [f64; LANES], row: &[f32; LANES]) {
    for lane in 0..LANES {
        let value = f64::from(row[lane]);
        sum[lane] += value;
        squares[lane] += value * value;
    }
}

#[inline(always)]
fn extreme(values: &[f32], start: f32, pick: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (rows, tail) = values.as_chunks::<LANES>();
    for row in rows {
        for lane in 0..LANES {
            lanes[lane] = pick(lanes[lane], row[lane]);
        }
    }
    lanes.into_iter().chain(tail.iter().copied()).fold(start, pick)
}

/// Adds lane j+8 to lane j, then lane j+4, j+2, j+1.
fn fold(mut lanes: [f64; LANES]) -> f64 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

pub(super) fn sketch(values: &[f32], first_row: u64, totals: &mut [f64; BUCKETS]) {
    let mut buckets = [0.0; BUCKETS];
    let (rows, tail) = values.as_chunks::<BUCKETS>();
    let mut keys = RowKeys::EMPTY;
    keys.fill(first_row, values.len().div_ceil(BUCKETS));
    for (row, (signs, mix)) in rows.iter().zip(keys.iter()) {
        add_row(&mut buckets, row, signs, mix);
    }
    if let Some((signs, mix)) = keys.iter().nth(rows.len()) {
        let mut last = [0.0; BUCKETS];
        last[..tail.len()].copy_from_slice(tail);
        add_row(&mut buckets, &last, signs, mix);
    }
    for (total, bucket) in totals.iter_mut().zip(buckets) {
        *total += f64::from(bucket);
    }
}

#[inline(always)]
fn add_row(buckets: &mut [f32; BUCKETS], row: &[f32; BUCKETS], signs: u64, mix: usize) {
    let mut signed = [0.0; BUCKETS];
    for half in 0..2 {
        // In two halves, because shifts of 32-bit lanes vectorise.
        #[allow(clippy::cast_possible_truncation)] // takes the lower half
        let minus = !((signs >> (half * 32)) as u32);
        for column in 0..32 {
            let sign = (minus >> column) << 31;
            signed[half * 32 + column] = f32::from_bits(row[half * 32 + column].to_bits() ^ sign);
        }
    }
    // The low three bits become constants, so that the shuffles stay inside groups of eight: whole registers.
    match mix & 7 {
        0 => add_shuffled::<0>(buckets, &signed, mix),
        1 => add_shuffled::<1>(buckets, &signed, mix),
        2 => add_shuffled::<2>(buckets, &signed, mix),
        3 => add_shuffled::<3>(buckets, &signed, mix),
        4 => add_shuffled::<4>(buckets, &signed, mix),
        5 => add_shuffled::<5>(buckets, &signed, mix),
        6 => add_shuffled::<6>(buckets, &signed, mix),
        _ => add_shuffled::<7>(buckets, &signed, mix),
    }
}

#[inline(always)]
fn add_shuffled<const LOW: usize>(buckets: &mut [f32; BUCKETS], row: &[f32; BUCKETS], mix: usize) {
    let (groups, _) = buckets.as_chunks_mut::<8>();
    let (from, _) = row.as_chunks::<8>();
    for (index, group) in from.iter().enumerate() {
        let to = &mut groups[index ^ (mix >> 3)];
        for lane in 0..8 {
            to[lane] += group[lane ^ LOW];
        }
    }
}

pub(super) fn widen_bf16(from: &[u16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = bf16_to_f32(*from);
    }
}

pub(super) fn widen_f16(from: &[u16], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = f16_to_f32(*from);
    }
}
