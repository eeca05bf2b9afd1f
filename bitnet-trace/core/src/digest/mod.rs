//! The digest floor: one pass over a tensor that computes its fingerprint.
//!
//! A [`TensorView`] shows a strided tensor of any [`Dtype`] where it lies in memory. The pass converts its
//! elements to f32 in row-major order, block by block, and feeds them to BLAKE3, to the statistics, and on
//! demand to the sketch and to one hash per row. The loops over elements are in `kernel`, one module per
//! instruction set; every kernel gives the same bits, which `docs/FORMAT.md` defines and `vectors/` tests.
//!
//! It imports only the error type of this crate.

mod blocks;
mod constants;
pub(crate) mod dtype;
pub(crate) mod float16;
mod gather;
mod hasher;
mod kernel;
mod native;
mod rows;
mod sketch;
mod stats;
pub(crate) mod strided;
#[cfg(test)]
mod tests;
mod text;
mod view;

use blake3::Hash;

pub use dtype::Dtype;
pub use kernel::Kernel;
pub(crate) use native::visit_bytes;
pub use stats::Statistics;
pub use view::{Elements, TensorSource, TensorView};

use blocks::Block;
use constants::{BUCKETS, SUB_BLOCK};
use hasher::{Hasher, little_endian};
use rows::RowHashes;
use sketch::Sketch;

/// What [`digest`] computes besides the hash and the statistics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// A sketch: 64 sums of signed elements, from which the distance of two tensors is estimated.
    pub sketch: bool,
    /// A short hash for each row of the last dimension.
    pub rows: bool,
}

/// The result of one pass over a tensor.
#[derive(Debug)]
#[non_exhaustive]
pub struct Digest {
    /// BLAKE3-256 of the elements as little-endian f32 in row-major order.
    pub blake3: Hash,
    /// BLAKE3-256 of the elements as little-endian bytes of their own type; `None` for types whose values f32
    /// holds exactly.
    pub raw_blake3: Option<Hash>,
    /// Sums, extremes and counts.
    pub statistics: Statistics,
    /// The sketch, if it was asked for.
    pub sketch: Option<[f32; BUCKETS]>,
    /// The first 8 bytes of each row's BLAKE3, if they were asked for. A scalar has one row, an empty tensor
    /// has no rows.
    pub rows: Option<Vec<[u8; 8]>>,
}

/// Reads the tensor once. It never allocates memory of the tensor's size; only the result grows with the
/// number of rows.
#[must_use]
pub fn digest(view: &TensorView<'_>, wanted: Wanted) -> Digest {
    digest_with(Kernel::best(), view, wanted)
}

/// Does the same with a given kernel. The result does not depend on the kernel.
#[must_use]
pub fn digest_with(kernel: Kernel, view: &TensorView<'_>, wanted: Wanted) -> Digest {
    let mut pass = Pass::new(kernel, view, wanted);
    blocks::visit(kernel, view, &mut |block| pass.add(&block));
    pass.finish(view.dtype().f32_is_lossy())
}

/// The state of a pass over a tensor.
struct Pass {
    kernel: Kernel,
    hasher: Hasher,
    raw: Hasher,
    statistics: Statistics,
    sketch: Option<Sketch>,
    rows: RowDigests,
}

enum RowDigests {
    Unwanted,
    /// The tensor has one row, whose hash is the tensor's.
    One,
    Many(RowHashes),
}

impl Pass {
    fn new(kernel: Kernel, view: &TensorView<'_>, wanted: Wanted) -> Self {
        let (count, dimensions) = (view.count(), view.shape());
        let rows = match dimensions.last() {
            _ if !wanted.rows => RowDigests::Unwanted,
            _ if count == 0 => RowDigests::Many(RowHashes::new(dimensions)),
            Some(&row) if row != count => RowDigests::Many(RowHashes::new(dimensions)),
            _ => RowDigests::One,
        };
        Self {
            kernel,
            hasher: Hasher::new(count * size_of::<f32>()),
            raw: Hasher::new(count * view.dtype().size()),
            statistics: Statistics::default(),
            sketch: wanted.sketch.then(Sketch::new),
            rows,
        }
    }

    /// Adds a block. The hash comes first: it is slow enough per byte for memory to keep up with it. The sums
    /// would have to wait for memory, and after the hash they find the block in the cache.
    fn add(&mut self, block: &Block<'_>) {
        little_endian(bytemuck::cast_slice(block.values), size_of::<f32>(), &mut |bytes| {
            self.hasher.update(bytes);
            if let RowDigests::Many(rows) = &mut self.rows {
                rows.update(bytes);
            }
        });
        for sub_block in block.values.chunks(SUB_BLOCK) {
            let finite = self.statistics.add(self.kernel, sub_block);
            if let Some(sketch) = &mut self.sketch {
                sketch.add(self.kernel, sub_block, finite);
            }
        }
        if let Some(native) = &block.native {
            little_endian(native.bytes, native.width, &mut |bytes| self.raw.update(bytes));
        }
    }

    fn finish(self, raw: bool) -> Digest {
        let blake3 = self.hasher.finish();
        Digest {
            blake3,
            raw_blake3: raw.then(|| self.raw.finish()),
            statistics: self.statistics,
            sketch: self.sketch.map(|sketch| sketch.finish()),
            rows: match self.rows {
                RowDigests::Unwanted => None,
                RowDigests::One => Some(vec![rows::first_bytes(blake3)]),
                RowDigests::Many(rows) => Some(rows.finish()),
            },
        }
    }
}
