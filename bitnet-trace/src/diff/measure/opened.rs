//! Captured elements as bytes, read from a file or where a tensor in memory has them.

use std::borrow::Cow;
use std::ops::Deref;

use bytemuck::Pod;
use candle_core::{CpuStorage, Layout, Storage};
use half::slice::HalfFloatSliceExt;

use super::view::{Refused, View};
use crate::captured::Captured;
use crate::dtype::Dtype;
use crate::strided::Strided;

/// A captured tensor that can be looked at. candle's storage is locked against writers meanwhile; the
/// lock is of another library in each version of candle.
pub(super) enum Opened<'a> {
    Read { dtype: Dtype, shape: &'a [usize], bytes: &'a [u8] },
    InMemory { storage: Box<dyn Deref<Target = Storage> + 'a>, layout: &'a Layout },
}

impl<'a> Opened<'a> {
    pub(super) fn new(captured: &'a Captured) -> Self {
        match captured {
            Captured::Read(values) => Self::Read { dtype: values.dtype, shape: &values.shape, bytes: &values.bytes },
            Captured::InMemory(tensor) => {
                let (storage, layout) = tensor.storage_and_layout();
                Self::InMemory { storage: Box::new(storage), layout }
            }
        }
    }

    /// The elements, not copied if they lie in this machine's memory as little-endian bytes.
    #[allow(clippy::redundant_closure_for_method_calls)] // naming the method takes the type's crate
    pub(super) fn view(&self) -> Result<View<'_>, Refused> {
        let (storage, layout) = match self {
            Self::Read { dtype, shape, bytes } => {
                return Ok(View::new(*dtype, Cow::Borrowed(bytes), Strided::contiguous(shape)));
            }
            Self::InMemory { storage, layout } => (&***storage, layout),
        };
        let Storage::Cpu(storage) = storage else { return Err("the tensor is not in the CPU's memory".to_owned()) };
        let (dtype, bytes) = match storage {
            CpuStorage::U8(data) => (Dtype::U8, Cow::Borrowed(data.as_slice())),
            CpuStorage::U32(data) => (Dtype::U32, little_endian(data)),
            CpuStorage::I16(data) => (Dtype::I16, little_endian(data)),
            CpuStorage::I32(data) => (Dtype::I32, little_endian(data)),
            CpuStorage::I64(data) => (Dtype::I64, little_endian(data)),
            CpuStorage::BF16(data) => (Dtype::BF16, little_endian(data.reinterpret_cast())),
            CpuStorage::F16(data) => (Dtype::F16, little_endian(data.reinterpret_cast())),
            CpuStorage::F32(data) => (Dtype::F32, little_endian(data)),
            CpuStorage::F64(data) => (Dtype::F64, little_endian(data)),
            CpuStorage::F8E4M3(data) => (Dtype::F8E4M3, Cow::Owned(data.iter().map(|x| x.to_bits()).collect())),
            CpuStorage::F6E2M3(_) | CpuStorage::F6E3M2(_) | CpuStorage::F4(_) | CpuStorage::F8E8M0(_) => {
                let dtype = candle_core::backend::BackendStorage::dtype(storage);
                return Err(format!("values of type {dtype:?} cannot be read"));
            }
        };
        Ok(View::new(dtype, bytes, Strided::new(layout.start_offset(), layout.dims(), layout.stride())))
    }
}

/// The elements as bytes: on other machines than little-endian ones turned around in a copy.
fn little_endian<T: Pod>(data: &[T]) -> Cow<'_, [u8]> {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytes);
    }
    let mut bytes = bytes.to_vec();
    bytes.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    Cow::Owned(bytes)
}
