//! One pass over a tensor: BLAKE3, statistics, and on demand a sketch and a hash for every row, all
//! of its elements as f32 in row-major order.

mod blocks;
mod digest;
mod gather;
mod kernel;
mod native;
mod rows;
mod sketch;
mod stats;
#[cfg(test)]
mod tests;
mod text;

use std::borrow::Cow;

use blake3::Hash;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, DType, Device, Layout, Storage, Tensor};

pub use kernel::Kernel;
pub(crate) use native::visit_bytes;
pub use stats::Statistics;

use crate::error::Error;
use blocks::Block;
use digest::{Digest, little_endian};
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
pub struct Fingerprint {
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

/// Reads the tensor once. A tensor of an accelerator is copied to the CPU first; nothing else of
/// the tensor's size is allocated, but what is returned.
///
/// # Errors
///
/// The tensor's type has no conversion to f32, or the accelerator fails.
pub fn fingerprint(tensor: &Tensor, wanted: Wanted) -> Result<Fingerprint, Error> {
    fingerprint_with(Kernel::best(), tensor, wanted)
}

/// The same with a certain instruction set. The result does not depend on it.
///
/// # Errors
///
/// As [`fingerprint`].
pub fn fingerprint_with(kernel: Kernel, tensor: &Tensor, wanted: Wanted) -> Result<Fingerprint, Error> {
    let tensor = on_host(tensor)?;
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::NotRecordable(format!("{:?} on a device other than the CPU", tensor.dtype())));
    };
    read(kernel, storage, layout, wanted)
}

/// The tensor in the CPU's memory: itself, or a copy of its own elements.
pub(crate) fn on_host(tensor: &Tensor) -> Result<Cow<'_, Tensor>, Error> {
    if tensor.device().is_cpu() {
        return Ok(Cow::Borrowed(tensor));
    }
    Ok(Cow::Owned(alone(tensor).to_device(&Device::Cpu)?))
}

/// The tensor in a storage that holds nothing else, on the device where it is.
///
/// candle copies a whole storage from device to device, a key-value cache for the sake of one step's
/// view of it, and does not tell how large the storage of an accelerator is: a contiguous view that
/// begins at the first element may be the beginning of something larger. So every tensor is copied
/// within the accelerator first, which takes a small part of the time of the copy to the host. Where
/// there is no memory for that, the whole storage is copied after all.
fn alone(tensor: &Tensor) -> Tensor {
    tensor.force_contiguous().unwrap_or_else(|_| tensor.clone())
}

fn read(kernel: Kernel, storage: &CpuStorage, layout: &Layout, wanted: Wanted) -> Result<Fingerprint, Error> {
    let mut pass = Pass::new(kernel, storage.dtype(), layout.dims(), wanted);
    blocks::visit(kernel, storage, layout, &mut |block| pass.add(&block))?;
    Ok(pass.finish(blocks::f32_is_lossy(storage)))
}

/// A tensor half read.
struct Pass {
    kernel: Kernel,
    digest: Digest,
    raw: Digest,
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
    fn new(kernel: Kernel, dtype: DType, dimensions: &[usize], wanted: Wanted) -> Self {
        let count: usize = dimensions.iter().product();
        let rows = match dimensions.last() {
            _ if !wanted.rows => Rows::Unwanted,
            _ if count == 0 => Rows::Many(RowHashes::new(dimensions)),
            Some(&row) if row != count => Rows::Many(RowHashes::new(dimensions)),
            _ => Rows::One,
        };
        Self {
            kernel,
            digest: Digest::new(count * size_of::<f32>()),
            raw: Digest::new(count * dtype.size_in_bytes()),
            statistics: Statistics::default(),
            sketch: wanted.sketch.then(Sketch::new),
            rows,
        }
    }

    /// The hash first: it takes its time over a byte, so that memory keeps up with it, and the sums,
    /// which would wait for memory, find the block in the cache.
    fn add(&mut self, block: &Block<'_>) {
        little_endian(bytemuck::cast_slice(block.values), size_of::<f32>(), &mut |bytes| {
            self.digest.update(bytes);
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

    fn finish(self, raw: bool) -> Fingerprint {
        let blake3 = self.digest.finish();
        Fingerprint {
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
