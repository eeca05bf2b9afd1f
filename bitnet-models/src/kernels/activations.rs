//! Activations in int8, one scale a token.

use rayon::prelude::*;

use super::packing::{BLOCK, QUARTERS, RUN};

/// Largest magnitude of an int8 activation.
const Q_MAX: f32 = 127.0;

/// The smallest maximum by which a row is scaled: a row of zeros must not cause a division by zero.
const SMALLEST_MAX: f32 = 1e-5;

/// Adding and taking away 1.5 * 2^23 rounds a float of magnitude below 2^22 to an integer, halves to even; after the
/// addition the low bits of the float are the integer in two's complement.
const ROUND: f32 = 12_582_912.0;

/// The activations of some tokens in int8.
#[derive(Debug, Clone, PartialEq)]
pub struct Activations {
    /// Values of a token.
    pub(super) columns: usize,
    /// From a token's values to the next one's: the columns and zeros up to a multiple of the kernels' widest step.
    pub(super) stride: usize,
    /// `[tokens, stride]`
    pub(super) values: Vec<i8>,
    /// The factor by which each token's activations were multiplied.
    pub(super) scales: Vec<f32>,
    /// The sum of each token's values.
    pub(super) sums: Vec<i32>,
}

impl Activations {
    /// Quantises `x` `[tokens, columns]`, each token by itself.
    #[must_use]
    pub fn quantize(x: &[f32], columns: usize) -> Self {
        let tokens = x.len().checked_div(columns).unwrap_or(0);
        let stride = columns.next_multiple_of(BLOCK).max(BLOCK);
        let (mut values, mut scales, mut sums) = (vec![0; tokens * stride], vec![0.0; tokens], vec![0; tokens]);
        let token = |row: &[f32], values: &mut [i8], scale: &mut f32, sum: &mut i32| {
            *scale = quantize_activations(row, &mut values[..columns]);
            *sum = values.iter().map(|q| i32::from(*q)).sum();
        };
        match (tokens, &mut scales[..], &mut sums[..]) {
            (1, [scale], [sum]) => token(&x[..columns], &mut values, scale, sum),
            _ => (values.par_chunks_exact_mut(stride), &mut scales, &mut sums)
                .into_par_iter()
                .zip(x.par_chunks_exact(columns.max(1)))
                .for_each(|((values, scale, sum), row)| token(row, values, scale, sum)),
        }
        Self { columns, stride, values, scales, sums }
    }

    pub(super) fn tokens(&self) -> usize {
        self.scales.len()
    }

    /// The values of a token, with the zeros behind them.
    pub(super) fn token(&self, token: usize) -> &[i8] {
        &self.values[token * self.stride..][..self.stride]
    }
}

/// Quantises one token's activations to int8: `round(x * scale)` with `scale = 127 / max|x|`, halves to even.
/// Returns the scale. It is NaN if the row holds a number that is not finite: the product then shows it, as it
/// would in floating point.
pub fn quantize_activations(row: &[f32], quantized: &mut [i8]) -> f32 {
    let Some(max) = absolute_max(row) else {
        quantized.fill(0);
        return f32::NAN;
    };
    let scale = Q_MAX / max.max(SMALLEST_MAX);
    for (to, from) in quantized.iter_mut().zip(row) {
        let clamped = (from * scale).clamp(-128.0, Q_MAX);
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // the low byte is the integer
        let q = (clamped + ROUND).to_bits() as i8;
        *to = q;
    }
    scale
}

/// The largest magnitude; `None` if one is not finite.
fn absolute_max(row: &[f32]) -> Option<f32> {
    const LANES: usize = 16;
    const MAGNITUDE: u32 = 0x7fff_ffff;
    const INFINITY: u32 = 0x7f80_0000;
    // Magnitudes are ordered as their bits are, infinity and NaN at the end.
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0u32; LANES];
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = (*lane).max(x.to_bits() & MAGNITUDE);
        }
    }
    let max = lanes.into_iter().chain(rest.iter().map(|x| x.to_bits() & MAGNITUDE)).fold(0, u32::max);
    (max < INFINITY).then_some(f32::from_bits(max))
}

/// The order in which 2-bit rows are multiplied: in a step of 256, the 32 values of a shift that are in the first 32
/// bytes, then those of the same shift in the next 32.
pub(super) fn interleave(values: &[i8]) -> Vec<i8> {
    let mut to = vec![0; values.len()];
    for (to, from) in to.as_chunks_mut::<BLOCK>().0.iter_mut().zip(values.as_chunks::<BLOCK>().0) {
        for (group, to) in to.as_chunks_mut::<{ 2 * RUN }>().0.iter_mut().enumerate() {
            to[..RUN].copy_from_slice(&from[RUN * group..][..RUN]);
            to[RUN..].copy_from_slice(&from[RUN * (QUARTERS + group)..][..RUN]);
        }
    }
    to
}
