//! A linear sketch: 64 sums of signed elements. The difference between the sketches of two tensors of one shape
//! estimates the norm of the difference between the tensors (a count sketch: Charikar, Chen, Farach-Colton,
//! Finding frequent items in data streams, 2002).
//!
//! Element i is in row r = i / 64, column c = i mod 64. Bit c of splitmix64(r) gives its sign, plus (1) or
//! minus (0); it is added to bucket c XOR (splitmix64(2^40 + r) mod 64). The buckets of a
//! sub-block are f32 sums in row order starting at +0; sub-blocks are added in order in f64.

use super::constants::{BUCKETS, SUB_BLOCK};
use super::kernel::Kernel;

/// Mask of the bits of a column: a number modulo 64.
const COLUMN: u8 = 63;

/// Number of sketch rows in a sub-block.
const ROWS: usize = SUB_BLOCK / BUCKETS;

/// Offset of the inputs of splitmix64 that choose buckets, so that they differ from those that choose signs.
const MIX_OFFSET: u64 = 1 << 40;

/// The sums over the elements seen so far.
#[derive(Debug)]
pub(crate) struct Sketch {
    totals: [f64; BUCKETS],
    next_row: u64,
}

impl Sketch {
    pub(crate) fn new() -> Self {
        Self { totals: [0.0; BUCKETS], next_row: 0 }
    }

    /// Adds a sub-block; only the last one may be partial. `finite` says whether all its elements are finite.
    pub(crate) fn add(&mut self, kernel: Kernel, sub_block: &[f32], finite: bool) {
        if finite {
            kernel.sketch(sub_block, self.next_row, &mut self.totals);
        } else {
            self.add_finite(kernel, sub_block);
        }
        self.next_row += ROWS as u64;
    }

    /// Adds a sub-block with every element that is not finite replaced by 0.
    #[cold]
    fn add_finite(&mut self, kernel: Kernel, sub_block: &[f32]) {
        let mut cleaned = [0.0; SUB_BLOCK];
        for (to, from) in cleaned.iter_mut().zip(sub_block) {
            *to = if from.is_finite() { *from } else { 0.0 };
        }
        kernel.sketch(&cleaned[..sub_block.len()], self.next_row, &mut self.totals);
    }

    /// The sums as f32, clamped to the range of f32. A sum that overflowed in both directions (NaN) is 0.
    #[allow(clippy::cast_possible_truncation)] // the sketch is defined in f32
    pub(crate) fn finish(&self) -> [f32; BUCKETS] {
        let limit = f64::from(f32::MAX);
        self.totals.map(|total| if total.is_nan() { 0.0 } else { total.clamp(-limit, limit) as f32 })
    }
}

/// Signs and bucket masks of the rows of one sub-block.
pub(super) struct RowKeys {
    /// The signs of row k are at index k + 1, because a kernel may read the bytes in front of a row's signs.
    signs: [u64; ROWS + 1],
    mixes: [u8; ROWS],
    rows: usize,
}

impl RowKeys {
    pub(super) const EMPTY: Self = Self { signs: [0; ROWS + 1], mixes: [0; ROWS], rows: 0 };

    /// Fills the keys in place, because the value is large to move.
    #[allow(clippy::inline_always)] // inlining compiles it for the instruction set of the kernel
    #[inline(always)]
    pub(super) fn fill(&mut self, first_row: u64, rows: usize) {
        self.rows = rows;
        for (row, (signs, mix)) in (first_row..).zip(self.signs[1..=rows].iter_mut().zip(&mut self.mixes)) {
            *signs = splitmix64(row);
            *mix = splitmix64(MIX_OFFSET + row).to_le_bytes()[0] & COLUMN;
        }
    }

    /// The signs and the bucket mask of each row.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, usize)> {
        self.signs[1..=self.rows].iter().copied().zip(self.mixes.iter().map(|&mix| usize::from(mix)))
    }

    /// The signs of all rows in order, after eight bytes of padding.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn padded_signs(&self) -> &[u64] {
        &self.signs[..=self.rows]
    }

    /// The bucket masks of all rows in order.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn mixes(&self) -> &[u8] {
        &self.mixes[..self.rows]
    }
}

/// The output function of `SplitMix64`: Steele, Lea, Flood, Fast splittable pseudorandom number generators (2014).
#[allow(clippy::inline_always)] // as in `RowKeys::fill`
#[inline(always)]
pub(crate) fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
