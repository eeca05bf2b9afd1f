//! One pass over a tensor: BLAKE3, statistics, and on demand a sketch and a hash for every row, all
//! of its elements as f32 in row-major order.

mod blocks;
mod digest;
mod gather;
mod kernel;
mod rows;
mod sketch;
mod stats;

use blake3::Hash;
use candle_core::{Device, Storage, Tensor};

pub use kernel::Kernel;
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
    let host;
    let tensor = if tensor.device().is_cpu() {
        tensor
    } else {
        host = tensor.to_device(&Device::Cpu)?;
        &host
    };
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cpu(storage) = &*storage else {
        return Err(Error::NotRecordable(format!("{:?} on a device other than the CPU", tensor.dtype())));
    };
    let mut pass = Pass::new(kernel, tensor, wanted);
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
    fn new(kernel: Kernel, tensor: &Tensor, wanted: Wanted) -> Self {
        let count = tensor.elem_count();
        let rows = match tensor.dims().last() {
            _ if !wanted.rows => Rows::Unwanted,
            _ if count == 0 => Rows::Many(RowHashes::new(tensor.dims())),
            Some(&row) if row != count => Rows::Many(RowHashes::new(tensor.dims())),
            _ => Rows::One,
        };
        Self {
            kernel,
            digest: Digest::new(count * size_of::<f32>()),
            raw: Digest::new(count * tensor.dtype().size_in_bytes()),
            statistics: Statistics::default(),
            sketch: wanted.sketch.then(Sketch::new),
            rows,
        }
    }

    /// The sums before the hash: they stream the block into the cache, sub-block by sub-block.
    fn add(&mut self, block: &Block<'_>) {
        for sub_block in block.values.chunks(SUB_BLOCK) {
            let finite = self.statistics.add(self.kernel, sub_block);
            if let Some(sketch) = &mut self.sketch {
                sketch.add(self.kernel, sub_block, finite);
            }
        }
        little_endian(bytemuck::cast_slice(block.values), size_of::<f32>(), &mut |bytes| {
            self.digest.update(bytes);
            if let Rows::Many(rows) = &mut self.rows {
                rows.update(bytes);
            }
        });
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{Wanted, fingerprint};

    /// The definition, written for clarity: everything in memory, element by element.
    fn slow(tensor: &Tensor) -> (blake3::Hash, f64, f64) {
        let values: Vec<f32> = tensor
            .to_dtype(DType::F32)
            .and_then(|t| t.flatten_all())
            .and_then(|t| t.to_vec1())
            .expect("a readable tensor");
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let square: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        let n = f64::from(u32::try_from(values.len()).expect("small"));
        let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
        (blake3::hash(&bytes), (square / n).sqrt(), sum / n)
    }

    fn check(tensor: &Tensor) {
        let found = fingerprint(tensor, Wanted::default()).expect("recordable");
        let (hash, rms, mean) = slow(tensor);
        assert_eq!(found.blake3, hash, "{:?} {:?}", tensor.dtype(), tensor.shape());
        assert!((found.statistics.rms() - rms).abs() <= 1e-12 * rms, "{} {rms}", found.statistics.rms());
        let difference = found.statistics.mean().expect("not empty") - mean;
        assert!(difference.abs() <= 1e-9 * rms.max(1.0), "{difference}");
    }

    fn ramp(count: usize) -> Tensor {
        Tensor::arange(0u32, u32::try_from(count).expect("small"), &Device::Cpu)
            .and_then(|t| t.to_dtype(DType::F32))
            .and_then(|t| t.affine(0.37, -11.0))
            .expect("a ramp")
    }

    #[test]
    fn every_type_and_length() {
        for count in [1, 15, 16, 17, 4095, 4096, 4097, 16383, 16384, 16385, 40000] {
            check(&ramp(count));
        }
        for dtype in [
            DType::F64,
            DType::F16,
            DType::BF16,
            DType::U8,
            DType::U32,
            DType::I16,
            DType::I32,
            DType::I64,
            DType::F8E4M3,
        ] {
            check(&ramp(20000).affine(0.01, 0.0).and_then(|t| t.to_dtype(dtype)).expect("a conversion"));
        }
    }

    #[test]
    fn strided_tensors_are_read_in_logical_order() {
        let square = ramp(150 * 200).reshape((150, 200)).expect("a matrix");
        check(&square.t().expect("transposed"));
        check(&square.narrow(1, 3, 90).expect("columns"));
        check(&square.narrow(0, 7, 90).expect("rows"));
        check(&ramp(200).broadcast_as((150, 200)).expect("rows repeated"));
        check(&ramp(150).reshape((150, 1)).and_then(|t| t.broadcast_as((150, 200))).expect("columns repeated"));
        let halves = square.to_dtype(DType::BF16).expect("bf16");
        check(&halves.reshape((5, 30, 200)).and_then(|t| t.transpose(0, 2)).expect("permuted"));
    }

    #[test]
    fn empty_and_scalar() {
        let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).expect("empty");
        let found = fingerprint(&empty, Wanted::default()).expect("recordable");
        assert_eq!(found.blake3, blake3::hash(b""));
        assert!(found.statistics.rms().abs() < f64::MIN_POSITIVE);
        assert_eq!((found.statistics.min(), found.statistics.mean()), (None, None));
        check(&Tensor::new(2.5f32, &Device::Cpu).expect("a scalar"));
    }

    #[test]
    fn the_raw_hash_tells_apart_what_f32_cannot() {
        let of = |value: i64| {
            let tensor = Tensor::new(&[value], &Device::Cpu).expect("one element");
            fingerprint(&tensor, Wanted::default()).expect("recordable")
        };
        let (a, b) = (of(1 << 24), of((1 << 24) + 1));
        assert_eq!(a.blake3, b.blake3);
        assert_ne!(a.raw_blake3, b.raw_blake3);
        assert!(fingerprint(&ramp(3), Wanted::default()).expect("recordable").raw_blake3.is_none());
    }
}
