//! Float matrices as they are stored, and the order in which their products add.
//!
//! A dot product has 16 lanes. Element i is multiplied and the product, rounded to f32, is added to lane i % 16, i in
//! order (no fused multiply-add); the last row of 16 is filled with zeros. Then lane j adds lane j + 8, for j below 8,
//! then j + 4, j + 2 and j + 1: lane 0 is the result. Every kernel adds in this order, so all give the same bits.

use bytes::Bytes;
use half::{bf16, f16};
use rayon::prelude::*;

use super::dispatch::Level;
use super::packing::PackingError;
use super::parallel;
use super::portable::TILE;

/// Lanes of a dot product.
pub(super) const LANES: usize = 16;

/// Values in a block of `Q8_0`.
pub(super) const Q8_BLOCK: usize = 32;

/// Bytes of a block of `Q8_0`: an f16 scale, then 32 int8.
pub(super) const Q8_BYTES: usize = 2 + Q8_BLOCK;

/// Bytes of a task of one token: some microseconds of reading, so that handing it over, and beginning to read in several
/// places, cost little beside it.
const TASK_BYTES: usize = 256 << 10;

/// Rows of a task of several tokens: when widened they stay in the second-level cache.
const TASK_ROWS: usize = 16;

/// How the elements of a float matrix are stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FloatType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32.
    Bf16,
    /// ggml's `Q8_0` (`ggml-common.h`, `block_q8_0`): 32 values in 34 bytes, an f16 scale and int8 factors.
    Q8_0,
}

impl FloatType {
    /// Bytes of a row. `None` if no row has this many columns.
    #[must_use]
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        match self {
            Self::F32 => columns.checked_mul(4),
            Self::F16 | Self::Bf16 => columns.checked_mul(2),
            Self::Q8_0 if columns.is_multiple_of(Q8_BLOCK) => (columns / Q8_BLOCK).checked_mul(Q8_BYTES),
            Self::Q8_0 => None,
        }
    }
}

/// The types as constants, for kernels that are compiled once for each.
pub(super) const F32: u8 = FloatType::F32 as u8;
pub(super) const F16: u8 = FloatType::F16 as u8;
pub(super) const BF16: u8 = FloatType::Bf16 as u8;
pub(super) const Q8_0: u8 = FloatType::Q8_0 as u8;

/// A float matrix as it is stored: the embeddings and the head, and the linear layers of an unquantised checkpoint.
#[derive(Debug, Clone)]
pub struct FloatMatrix {
    dtype: FloatType,
    rows: usize,
    columns: usize,
    row_bytes: usize,
    data: Bytes,
}

impl FloatMatrix {
    /// A matrix `[rows, columns]` of these bytes, which stay where they are.
    ///
    /// # Errors
    ///
    /// If the number of bytes is not that of the shape, or the type has no matrix of this shape.
    pub fn new(dtype: FloatType, rows: usize, columns: usize, data: Bytes) -> Result<Self, PackingError> {
        let shape = PackingError::Shape { rows, columns };
        if dtype == FloatType::Q8_0 && !columns.is_multiple_of(Q8_BLOCK) {
            return Err(PackingError::Multiple { what: "a number of inputs", multiple: Q8_BLOCK, found: columns });
        }
        let Some(row_bytes) = dtype.row_bytes(columns).filter(|bytes| rows > 0 && *bytes > 0) else {
            return Err(shape);
        };
        match rows.checked_mul(row_bytes) {
            Some(expected) if expected == data.len() => Ok(Self { dtype, rows, columns, row_bytes, data }),
            Some(expected) => Err(PackingError::Length { expected, found: data.len() }),
            None => Err(shape),
        }
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// How the elements are stored.
    #[must_use]
    pub fn dtype(&self) -> FloatType {
        self.dtype
    }

    /// Bytes that are read for one product.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// Widens a row to f32, as much of it as `to` has room for.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, index: usize, to: &mut [f32]) {
        widen(self.dtype, &self.data[index * self.row_bytes..][..self.row_bytes], to);
    }

    /// Multiplies each token of `x` `[tokens, columns]`: returns `[tokens, rows]`.
    #[must_use]
    pub fn product(&self, x: &[f32]) -> Vec<f32> {
        let level = Level::current();
        let mut out = vec![0.0; x.len() / self.columns * self.rows];
        if out.is_empty() {
            return out;
        }
        if x.len() == self.columns {
            let grain = (TASK_BYTES / self.row_bytes).max(1);
            parallel::split(0, [&mut out], grain, &|first, [out]| {
                let data = &self.data[first * self.row_bytes..][..out.len() * self.row_bytes];
                level.float_rows(self.dtype, data, self.row_bytes, x, out);
            });
        } else {
            self.several(level, x, &mut out);
        }
        out
    }

    /// The product with several tokens: widens some rows, then multiplies them with all tokens.
    fn several(&self, level: Level, x: &[f32], out: &mut [f32]) {
        let stride = self.columns.next_multiple_of(LANES);
        let tokens = padded(x, self.columns, stride);
        let tasks = parallel::columns(out, self.rows, TASK_ROWS);
        tasks.into_par_iter().enumerate().for_each_init(
            || vec![0.0; TASK_ROWS * stride],
            |widened, (task, mut out)| {
                let rows = out[0].len();
                for (row, to) in widened.chunks_exact_mut(stride).take(rows).enumerate() {
                    self.row(task * TASK_ROWS + row, &mut to[..self.columns]);
                }
                for (tile, tokens) in tokens.chunks(TILE * stride).enumerate() {
                    for (block, rows) in widened.chunks_exact(TILE * stride).take(rows.div_ceil(TILE)).enumerate() {
                        let mut sums = [[0.0; TILE]; TILE];
                        level.float_tile(rows, tokens, stride, &mut sums);
                        for (token, out) in out[tile * TILE..].iter_mut().take(TILE).enumerate() {
                            for (out, sums) in out[block * TILE..].iter_mut().zip(&sums) {
                                *out = sums[token];
                            }
                        }
                    }
                }
            },
        );
    }
}

/// Rows of `columns` as rows of `stride`, with zeros behind them.
fn padded(x: &[f32], columns: usize, stride: usize) -> std::borrow::Cow<'_, [f32]> {
    if columns == stride {
        return x.into();
    }
    let mut to = vec![0.0; x.len() / columns * stride];
    for (to, from) in to.chunks_exact_mut(stride).zip(x.chunks_exact(columns)) {
        to[..columns].copy_from_slice(from);
    }
    to.into()
}

/// Widens as many stored elements as `to` has.
pub(super) fn widen(dtype: FloatType, from: &[u8], to: &mut [f32]) {
    match dtype {
        FloatType::F32 => {
            for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
                *to = f32::from_le_bytes(*from);
            }
        }
        FloatType::F16 => {
            for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
                *to = f16::from_le_bytes(*from).to_f32();
            }
        }
        FloatType::Bf16 => {
            for (to, from) in to.iter_mut().zip(from.as_chunks().0) {
                *to = bf16::from_le_bytes(*from).to_f32();
            }
        }
        FloatType::Q8_0 => {
            for (to, from) in to.chunks_mut(Q8_BLOCK).zip(from.as_chunks::<Q8_BYTES>().0) {
                let [low, high, factors @ ..] = from;
                let scale = f16::from_le_bytes([*low, *high]).to_f32();
                for (to, factor) in to.iter_mut().zip(factors) {
                    *to = scale * f32::from(factor.cast_signed());
                }
            }
        }
    }
}

/// The dot product in the order of this module.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    let mut add = |a: &[f32; LANES], b: &[f32; LANES]| {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    };
    for (a, b) in a.iter().zip(b) {
        add(a, b);
    }
    if !a_rest.is_empty() {
        add(&filled(a_rest), &filled(b_rest));
    }
    fold(lanes)
}

/// The sum of the squares in the order of this module.
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    dot(x, x)
}

/// The sum in the order of this module.
pub(crate) fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for chunk in x.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    fold(lanes)
}

/// The elements, and zeros up to 16.
pub(super) fn filled(rest: &[f32]) -> [f32; LANES] {
    let mut all = [0.0; LANES];
    all[..rest.len()].copy_from_slice(rest);
    all
}

fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}
