//! Ternary matrices in their stored bytes, and their products with int8 activations.

use std::borrow::Cow;

use bytes::Bytes;
use half::f16;
use rayon::prelude::*;

use super::activations::{Activations, interleave};
use super::dispatch::Level;
use super::packing::{
    BLOCK, BLOCK_BYTES, MOST_COLUMNS, Packing, PackingError, QUARTERS, RUN, TQ1_BYTES, TQ2_BYTES, fourth_code,
    unpack_base3, unpack_blocks, unpack_quarters,
};
use super::parallel;
use super::portable::{TILE, dot_codes};

/// Bytes of a task of one token: some microseconds of reading, so that handing it over, and beginning to read in several
/// places, cost little beside it.
const TASK_BYTES: usize = 128 << 10;

/// Most rows of a task of one token: their sums are on the stack.
const MOST_ROWS: usize = 256;

/// Rows of a task of several tokens: when unpacked they stay in the second-level cache.
const TASK_ROWS: usize = 16;

/// Bytes that are checked in one task.
const CHECKED: usize = 1 << 20;

/// A matrix of -1, 0 and +1 in its stored bytes. A clone shares them.
#[derive(Debug, Clone)]
pub struct TernaryMatrix {
    layout: Layout,
    rows: usize,
    columns: usize,
    data: Bytes,
    block_scales: BlockScales,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// [`Packing::I2S`], or the same with rows that are filled with zeros to whole steps of 256 columns.
    MsbBlocks { row_bytes: usize },
    /// [`Packing::Tq2_0`]
    LsbBlocks { row_bytes: usize },
    /// [`Packing::Tq1_0`]
    Base3 { row_bytes: usize },
    /// [`Packing::HuggingFace`]
    Quarters,
}

/// The scales of the blocks of 256.
#[derive(Debug, Clone, Copy, PartialEq)]
enum BlockScales {
    /// There are none, or all blocks that are not zero have this one.
    One(f32),
    /// They differ.
    Each,
}

impl TernaryMatrix {
    /// A matrix `[rows, columns]` of these bytes, which stay where they are.
    ///
    /// # Errors
    ///
    /// If the layout has no matrix of this shape, the number of bytes is not that of the shape, a code is not that of a
    /// value, or a block's scale is not finite.
    pub fn new(packing: Packing, rows: usize, columns: usize, data: Bytes) -> Result<Self, PackingError> {
        let expected = packing.bytes(rows, columns)?;
        if data.len() != expected {
            return Err(PackingError::Length { expected, found: data.len() });
        }
        let row_bytes = expected / rows;
        let (layout, block_scales) = match packing {
            Packing::I2S => (Layout::MsbBlocks { row_bytes }, check_codes(&data)?),
            Packing::HuggingFace => (Layout::Quarters, check_codes(&data)?),
            Packing::Tq2_0 => (Layout::LsbBlocks { row_bytes }, check_blocks::<TQ2_BYTES>(&data)?),
            Packing::Tq1_0 => (Layout::Base3 { row_bytes }, check_blocks::<TQ1_BYTES>(&data)?),
        };
        Ok(Self { layout, rows, columns, data, block_scales })
    }

    /// Packs `values` `[rows, columns]`, each -1, 0 or +1 (others count as their sign), into memory of its own.
    ///
    /// # Panics
    ///
    /// If the shape is not that of the values.
    #[must_use]
    pub fn from_values(rows: usize, columns: usize, values: &[i8]) -> Self {
        assert_eq!(Some(values.len()), rows.checked_mul(columns), "the number of values is that of the shape");
        let row_bytes = columns.next_multiple_of(BLOCK) / QUARTERS;
        let mut data = vec![0; rows * row_bytes];
        for (row, values) in data.chunks_exact_mut(row_bytes.max(1)).zip(values.chunks_exact(columns.max(1))) {
            for (column, value) in values.iter().enumerate() {
                let (block, at) = (column / (RUN * QUARTERS), column % (RUN * QUARTERS));
                let code = (value.signum() + 1).cast_unsigned();
                row[block * RUN + at % RUN] |= code << (6 - 2 * (at / RUN));
            }
        }
        let layout = Layout::MsbBlocks { row_bytes };
        Self { layout, rows, columns, data: data.into(), block_scales: BlockScales::One(1.0) }
    }

    /// The values in row-major order, each -1, 0 or +1.
    #[must_use]
    pub fn values(&self) -> Vec<i8> {
        let mut codes = vec![0; self.stride()];
        let mut values = Vec::with_capacity(self.rows * self.columns);
        for row in 0..self.rows {
            self.unpack(row, &mut codes);
            values.extend(codes[..self.columns].iter().map(|code| code.cast_signed() - 1));
        }
        values
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

    /// Bytes that are read for one product.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The scale that all blocks share, which [`Self::product`] leaves out: 1 for a layout without block scales, and where
    /// they differ, as the product then holds them.
    #[must_use]
    pub fn scale(&self) -> f32 {
        match self.block_scales {
            BlockScales::One(scale) => scale,
            BlockScales::Each => 1.0,
        }
    }

    /// Multiplies each token: returns `[tokens, rows]`, the results of `finish(product, activation scale)`. The product is
    /// the exact integer, rounded to f32 above 2^24; with block scales that differ, the sum in block order of each block's
    /// integer times its scale, in f32.
    ///
    /// # Panics
    ///
    /// If the activations have another width.
    pub fn product(&self, activations: &Activations, finish: impl Fn(f32, f32) -> f32 + Sync) -> Vec<f32> {
        assert_eq!(activations.columns, self.columns, "activations as wide as the matrix");
        let mut out = vec![0.0; activations.tokens() * self.rows];
        let level = Level::current();
        if out.is_empty() {
            return out;
        }
        if self.block_scales == BlockScales::Each || self.columns > MOST_COLUMNS {
            self.row_by_row(activations, &finish, &mut out);
        } else if activations.tokens() == 1 {
            self.one(level, activations, &finish, &mut out);
        } else {
            self.several(level, activations, &finish, &mut out);
        }
        out
    }

    /// The product with one token, from the packed bytes.
    fn one(
        &self,
        level: Level,
        activations: &Activations,
        finish: &(impl Fn(f32, f32) -> f32 + Sync),
        out: &mut [f32],
    ) {
        let (values, scale, sum) = (activations.token(0), activations.scales[0], activations.sums[0]);
        let finish = |sums: &[i32], out: &mut [f32]| {
            for (out, dot) in out.iter_mut().zip(sums) {
                #[allow(clippy::cast_precision_loss)] // exact below 2^24
                let product = (dot - sum) as f32;
                *out = finish(product, scale);
            }
        };
        let values = match self.layout {
            Layout::MsbBlocks { .. } | Layout::LsbBlocks { .. } => Cow::Owned(interleave(values)),
            Layout::Base3 { .. } | Layout::Quarters => Cow::Borrowed(values),
        };
        if self.layout == Layout::Quarters {
            let (first, second) = out.split_at_mut(self.rows / 2);
            let ((a, b), (c, d)) = (first.split_at_mut(self.rows / 4), second.split_at_mut(self.rows / 4));
            parallel::split(0, [a, b, c, d], Self::grain(self.columns), &|first, out| {
                let rows = out[0].len();
                let data = &self.data[first * self.columns..][..rows * self.columns];
                let mut sums = [[0; MOST_ROWS]; QUARTERS];
                level.quarters(self.columns, data, &values, sums.each_mut().map(|sums| &mut sums[..rows]));
                for (out, sums) in out.into_iter().zip(&sums) {
                    finish(&sums[..rows], out);
                }
            });
            return;
        }
        let row_bytes = self.row_bytes();
        parallel::split(0, [out], Self::grain(row_bytes), &|first, [out]| {
            let data = &self.data[first * row_bytes..][..out.len() * row_bytes];
            let mut sums = [0; MOST_ROWS];
            let sums = &mut sums[..out.len()];
            match self.layout {
                Layout::MsbBlocks { .. } => level.blocks::<true>(row_bytes, BLOCK_BYTES, data, &values, sums),
                Layout::LsbBlocks { .. } => level.blocks::<false>(row_bytes, TQ2_BYTES, data, &values, sums),
                Layout::Base3 { .. } | Layout::Quarters => level.base3(row_bytes, data, &values, sums),
            }
            finish(sums, out);
        });
    }

    /// The product with several tokens: unpacks some rows, then multiplies them with all tokens.
    fn several(
        &self,
        level: Level,
        activations: &Activations,
        finish: &(impl Fn(f32, f32) -> f32 + Sync),
        out: &mut [f32],
    ) {
        let stride = self.stride();
        // Rows that share bytes are unpacked together: a task has some of each quarter.
        let parts = if self.layout == Layout::Quarters { QUARTERS } else { 1 };
        let part_rows = self.rows / parts;
        let block = TASK_ROWS / parts;
        const { assert!((TASK_ROWS / QUARTERS).is_multiple_of(TILE)) };
        let tasks = parallel::columns(out, part_rows, block);
        tasks.into_par_iter().enumerate().for_each_init(
            || vec![0; TASK_ROWS * stride],
            |codes, (task, mut out)| {
                // Piece `token * parts + part`, row `i` of it is the row of codes `part * block + i`.
                let rows = out[0].len();
                for part in 0..parts {
                    for row in 0..rows {
                        let codes = &mut codes[(part * block + row) * stride..][..stride];
                        self.unpack(part * part_rows + task * block + row, codes);
                    }
                }
                let blocks = if parts == 1 { rows.div_ceil(TILE) } else { TASK_ROWS / TILE };
                for (tile, tokens) in activations.values.chunks(TILE * stride).enumerate() {
                    for (at, codes) in codes.chunks_exact(TILE * stride).take(blocks).enumerate() {
                        let mut sums = [[0; TILE]; TILE];
                        level.tile(codes, tokens, stride, &mut sums);
                        // The rows of a tile are in one part: a part's rows are whole tiles.
                        let (part, first) = (at * TILE / block, at * TILE % block);
                        for token in 0..tokens.len() / stride {
                            let at = tile * TILE + token;
                            let (scale, sum) = (activations.scales[at], activations.sums[at]);
                            for (out, sums) in out[at * parts + part].iter_mut().skip(first).zip(&sums) {
                                #[allow(clippy::cast_precision_loss)] // exact below 2^24
                                let product = (sums[token] - sum) as f32;
                                *out = finish(product, scale);
                            }
                        }
                    }
                }
            },
        );
    }

    /// The product with block scales that differ, and with rows whose sums may leave an i32.
    fn row_by_row(&self, activations: &Activations, finish: &(impl Fn(f32, f32) -> f32 + Sync), out: &mut [f32]) {
        parallel::columns(out, self.rows, 1).into_par_iter().enumerate().for_each_init(
            || vec![0; self.stride()],
            |codes, (row, mut out)| {
                self.unpack(row, codes);
                for (token, out) in out.iter_mut().flat_map(|out| out.iter_mut()).enumerate() {
                    let values = activations.token(token);
                    let blocks =
                        codes[..self.columns].chunks(BLOCK).zip(values.chunks(BLOCK)).map(|(codes, values)| {
                            let sum: i32 = values.iter().take(codes.len()).map(|value| i32::from(*value)).sum();
                            dot_codes(codes, values) - sum
                        });
                    #[allow(clippy::cast_precision_loss)] // a block's sum is exact
                    let product = match self.block_scales {
                        BlockScales::One(_) => blocks.map(i64::from).sum::<i64>() as f32,
                        BlockScales::Each => {
                            blocks.zip(self.scales_of(row)).fold(0.0, |all, (sum, scale)| all + sum as f32 * scale)
                        }
                    };
                    *out = finish(product, activations.scales[token]);
                }
            },
        );
    }

    /// Rows of a task of one token.
    fn grain(row_bytes: usize) -> usize {
        (TASK_BYTES / row_bytes.max(1)).clamp(1, MOST_ROWS)
    }

    /// Columns and the room behind them in unpacked rows.
    fn stride(&self) -> usize {
        self.columns.next_multiple_of(BLOCK).max(BLOCK)
    }

    fn row_bytes(&self) -> usize {
        match self.layout {
            Layout::MsbBlocks { row_bytes } | Layout::LsbBlocks { row_bytes } | Layout::Base3 { row_bytes } => {
                row_bytes
            }
            Layout::Quarters => self.columns,
        }
    }

    /// The bytes of a row; with [`Layout::Quarters`] other rows are in them too.
    fn packed(&self, row: usize) -> &[u8] {
        let row = if self.layout == Layout::Quarters { row % (self.rows / QUARTERS) } else { row };
        &self.data[row * self.row_bytes()..][..self.row_bytes()]
    }

    /// The codes of a row.
    fn unpack(&self, row: usize, codes: &mut [u8]) {
        let packed = self.packed(row);
        match self.layout {
            Layout::MsbBlocks { .. } => unpack_blocks::<true>(packed, BLOCK_BYTES, codes),
            Layout::LsbBlocks { .. } => unpack_blocks::<false>(packed, TQ2_BYTES, codes),
            Layout::Base3 { .. } => unpack_base3(packed, codes),
            Layout::Quarters => unpack_quarters(packed, row / (self.rows / QUARTERS), codes),
        }
    }

    /// The block scales of a row.
    fn scales_of(&self, row: usize) -> impl Iterator<Item = f32> {
        let bytes = if matches!(self.layout, Layout::Base3 { .. }) { TQ1_BYTES } else { TQ2_BYTES };
        self.packed(row).chunks_exact(bytes).map(scale_of)
    }
}

/// Checks that no code is 3.
fn check_codes(data: &[u8]) -> Result<BlockScales, PackingError> {
    let found = data.par_chunks(CHECKED).enumerate().find_map_first(|(chunk, bytes)| {
        fourth_code(bytes).map(|at| PackingError::Code { byte: chunk * CHECKED + at })
    });
    found.map_or(Ok(BlockScales::One(1.0)), Err)
}

/// Checks codes and scales of blocks of TQ2_0 or TQ1_0.
fn check_blocks<const BYTES: usize>(data: &[u8]) -> Result<BlockScales, PackingError> {
    let blocks = data.as_chunks::<BYTES>().0;
    let checked = CHECKED / BYTES;
    let one = |(chunk, blocks): (usize, &[[u8; BYTES]])| {
        let mut scale = None;
        for (index, block) in blocks.iter().enumerate() {
            let index = chunk * checked + index;
            let value = scale_of(block);
            if !value.is_finite() {
                return Err(PackingError::Scale { block: index, value });
            }
            if BYTES == TQ2_BYTES
                && let Some(at) = fourth_code(&block[..BLOCK_BYTES])
            {
                return Err(PackingError::Code { byte: index * BYTES + at });
            }
            scale = merge(scale, if is_zero(block) { None } else { Some(BlockScales::One(value)) });
        }
        Ok(scale)
    };
    // The first error is reported, whichever thread finds one first.
    let scales: Vec<_> = blocks.par_chunks(checked).enumerate().map(one).collect();
    let mut all = None;
    for scale in scales {
        all = merge(all, scale?);
    }
    Ok(all.unwrap_or(BlockScales::One(1.0)))
}

fn merge(a: Option<BlockScales>, b: Option<BlockScales>) -> Option<BlockScales> {
    match (a, b) {
        (None, other) | (other, None) => other,
        (Some(a), Some(b)) if a == b => Some(a),
        _ => Some(BlockScales::Each),
    }
}

/// Whether all values of a block are 0, so that its scale does not matter.
fn is_zero<const BYTES: usize>(block: &[u8; BYTES]) -> bool {
    /// Four codes of the value 0.
    const ZEROS: u8 = 0b0101_0101;
    if BYTES == TQ2_BYTES {
        return block[..BLOCK_BYTES].iter().all(|byte| *byte == ZEROS);
    }
    let mut codes = [0; BLOCK];
    // Most blocks differ in their first byte from one of zeros.
    let zero_first = block[0] == block[1];
    zero_first && {
        unpack_base3(block, &mut codes);
        codes.iter().all(|code| *code == 1)
    }
}

fn scale_of(block: &[u8]) -> f32 {
    block.last_chunk().map_or(f32::NAN, |bytes| f16::from_le_bytes(*bytes).to_f32())
}
