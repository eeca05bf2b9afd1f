//! One pass over a tensor: BLAKE3, statistics, and on demand a sketch and a hash for every row, all
//! of its elements as f32 in row-major order.

mod blocks;
pub(crate) mod dtype;
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
use hasher::{Hasher, little_endian};
use kernel::SUB_BLOCK;
use rows::RowHashes;
use sketch::{BUCKETS, Sketch};

/// What is found besides hash and statistics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// The 64 sums of signed elements that tell how far two tensors are apart.
    pub sketch: bool,
    /// A short hash for every row of the last dimension.
    pub rows: bool,
}

/// What one pass finds.
#[derive(Debug)]
#[non_exhaustive]
pub struct Digest {
    /// Of the elements as little-endian f32.
    pub blake3: Hash,
    /// Of the native little-endian bytes, for types that f32 cannot tell apart.
    pub raw_blake3: Option<Hash>,
    /// Sums, extremes and counts.
    pub statistics: Statistics,
    /// If wanted.
    pub sketch: Option<[f32; BUCKETS]>,
    /// If wanted: the first bytes of each row's BLAKE3. A scalar has one row, an empty tensor none.
    pub rows: Option<Vec<[u8; 8]>>,
}

/// Reads the tensor once. Nothing of the tensor's size is allocated, but what is returned.
#[must_use]
pub fn digest(view: &TensorView<'_>, wanted: Wanted) -> Digest {
    digest_with(Kernel::best(), view, wanted)
}

/// The same with a certain instruction set. The result does not depend on it.
#[must_use]
pub fn digest_with(kernel: Kernel, view: &TensorView<'_>, wanted: Wanted) -> Digest {
    let mut pass = Pass::new(kernel, view, wanted);
    blocks::visit(kernel, view, &mut |block| pass.add(&block));
    pass.finish(view.dtype().f32_is_lossy())
}

/// A tensor half read.
struct Pass {
    kernel: Kernel,
    hasher: Hasher,
    raw: Hasher,
    statistics: Statistics,
    sketch: Option<Sketch>,
    rows: Rows,
}

enum Rows {
    Unwanted,
    /// One row, whose hash is the tensor's.
    One,
    Many(RowHashes),
}

impl Pass {
    fn new(kernel: Kernel, view: &TensorView<'_>, wanted: Wanted) -> Self {
        let (count, dimensions) = (view.count(), view.shape());
        let rows = match dimensions.last() {
            _ if !wanted.rows => Rows::Unwanted,
            _ if count == 0 => Rows::Many(RowHashes::new(dimensions)),
            Some(&row) if row != count => Rows::Many(RowHashes::new(dimensions)),
            _ => Rows::One,
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

    /// The hash first: it takes its time over a byte, so that memory keeps up with it, and the sums,
    /// which would wait for memory, find the block in the cache.
    fn add(&mut self, block: &Block<'_>) {
        little_endian(bytemuck::cast_slice(block.values), size_of::<f32>(), &mut |bytes| {
            self.hasher.update(bytes);
            if let Rows::Many(rows) = &mut self.rows {
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
                Rows::Unwanted => None,
                Rows::One => Some(vec![rows::first_bytes(blake3)]),
                Rows::Many(rows) => Some(rows.finish()),
            },
        }
    }
}
