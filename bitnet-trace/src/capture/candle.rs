//! candle's tensors as views, and the facts about candle in `run.json`.
//!
//! `unsafe` is needed here because candle's type of 8-bit floats has a fixed layout, but does not implement the
//! traits by which other crates cast safely.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::sync::OnceLock;

use bitnet_trace_core::Error;
use bitnet_trace_core::digest::{Elements, TensorSource, TensorView};
use bitnet_trace_core::session::TensorLibrary;
use bitnet_trace_core::trace::Function;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Device, DeviceLocation, Storage, Tensor, utils};
use half::slice::HalfFloatSliceExt;

use super::sites::call_sites;

/// The facts about candle for `run.json`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Candle;

impl TensorLibrary for Candle {
    fn threads() -> Option<usize> {
        /// Computed once: candle reads the environment and counts the processors.
        static THREADS: OnceLock<usize> = OnceLock::new();
        Some(*THREADS.get_or_init(utils::get_num_threads))
    }

    fn features() -> Vec<String> {
        let features = [
            ("trace", true),
            ("read", true),
            ("candle-core/accelerate", utils::has_accelerate()),
            ("candle-core/cuda", utils::cuda_is_available()),
            ("candle-core/metal", utils::metal_is_available()),
            ("candle-core/mkl", utils::has_mkl()),
        ];
        features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name.to_owned()).collect()
    }

    fn functions() -> Vec<(usize, Function)> {
        let function = |site: &'static super::CallSite| {
            (site.number(), Function::new(site.stage, site.function, site.module, site.file, site.line))
        };
        call_sites().into_iter().map(function).collect()
    }
}

/// A tensor that is read only after it is known that it will be recorded.
pub(crate) struct Source<'a>(pub(crate) &'a Tensor);

impl TensorSource for Source<'_> {
    fn with_view(&self, read: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let tensor = on_host(self.0).map_err(|error| Error::Tensor(error.into()))?;
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            return Err(Error::NotRecordable(format!("{:?} on a device other than the CPU", tensor.dtype())));
        };
        let elements = elements(storage)?;
        read(&TensorView::strided(elements, layout.start_offset(), layout.dims(), layout.stride())?)
    }

    fn device(&self) -> Option<String> {
        match self.0.device().location() {
            DeviceLocation::Cpu => None,
            DeviceLocation::Cuda { gpu_id } => Some(format!("cuda:{gpu_id}")),
            DeviceLocation::Metal { gpu_id } => Some(format!("metal:{gpu_id}")),
        }
    }
}

/// Borrows the elements of a storage.
fn elements(storage: &CpuStorage) -> Result<Elements<'_>, Error> {
    Ok(match storage {
        CpuStorage::U8(data) => Elements::U8(data),
        CpuStorage::U32(data) => Elements::U32(data),
        CpuStorage::I16(data) => Elements::I16(data),
        CpuStorage::I32(data) => Elements::I32(data),
        CpuStorage::I64(data) => Elements::I64(data),
        CpuStorage::BF16(data) => Elements::BF16(data.reinterpret_cast()),
        CpuStorage::F16(data) => Elements::F16(data.reinterpret_cast()),
        CpuStorage::F32(data) => Elements::F32(data),
        CpuStorage::F64(data) => Elements::F64(data),
        CpuStorage::F8E4M3(data) => Elements::F8E4M3(bytes(data)),
        #[allow(unreachable_patterns)] // versions of candle differ in their packed placeholders
        _ => return Err(Error::NotRecordable(format!("{:?}", storage.dtype()))),
    })
}

/// The bits of 8-bit floats. Their type is `#[repr(transparent)]` around a byte in the crate `float8`; naming
/// it here would tie this crate to one version of that crate.
fn bytes<T: Copy>(data: &[T]) -> &[u8] {
    const { assert!(size_of::<T>() == 1 && align_of::<T>() == 1, "a byte") };
    // SAFETY: each element is one initialised byte; the result has the same address, length and lifetime.
    unsafe { std::slice::from_raw_parts(data.as_ptr().cast(), data.len()) }
}

/// Returns the tensor in the CPU's memory: itself, or a copy of its own elements.
fn on_host(tensor: &Tensor) -> candle_core::Result<Cow<'_, Tensor>> {
    if tensor.device().is_cpu() {
        return Ok(Cow::Borrowed(tensor));
    }
    Ok(Cow::Owned(alone(tensor).to_device(&Device::Cpu)?))
}

/// Returns the tensor in a storage that holds nothing else, on the same device.
///
/// candle always copies a whole storage between devices, even a whole key-value cache for one step's
/// view of it. It does not say how large an accelerator's storage is, so a contiguous view that begins
/// at the first element may be part of something larger. Therefore every tensor is first copied within
/// the accelerator, which takes a small part of the time of the copy to the host. If the accelerator has
/// no memory for that copy, the whole storage is copied to the host.
fn alone(tensor: &Tensor) -> Tensor {
    tensor.force_contiguous().unwrap_or_else(|_| tensor.clone())
}

#[cfg(test)]
#[path = "candle_tests.rs"]
mod tests;
