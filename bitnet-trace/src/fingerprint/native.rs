//! A tensor's elements as little-endian bytes of its own type, block by block.

use std::io;

use candle_core::{CpuStorage, Layout};

use super::gather::gather;
use crate::error::Error;

/// Elements handed on at once: at most 64 KiB of the widest type.
const CHUNK: usize = 8192;

/// Calls `visit` for the bytes of block after block, in row-major logical order, until it fails.
#[allow(clippy::redundant_closure_for_method_calls)] // naming the method takes the type's crate
pub(crate) fn visit_bytes(
    storage: &CpuStorage,
    layout: &Layout,
    visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> Result<io::Result<()>, Error> {
    Ok(match storage {
        CpuStorage::U8(data) => bytes(data, layout, |x| [x], visit),
        CpuStorage::U32(data) => bytes(data, layout, u32::to_le_bytes, visit),
        CpuStorage::I16(data) => bytes(data, layout, i16::to_le_bytes, visit),
        CpuStorage::I32(data) => bytes(data, layout, i32::to_le_bytes, visit),
        CpuStorage::I64(data) => bytes(data, layout, i64::to_le_bytes, visit),
        CpuStorage::BF16(data) => bytes(data, layout, |x| x.to_le_bytes(), visit),
        CpuStorage::F16(data) => bytes(data, layout, |x| x.to_le_bytes(), visit),
        CpuStorage::F32(data) => bytes(data, layout, f32::to_le_bytes, visit),
        CpuStorage::F64(data) => bytes(data, layout, f64::to_le_bytes, visit),
        CpuStorage::F8E4M3(data) => bytes(data, layout, |x| [x.to_bits()], visit),
        CpuStorage::F6E2M3(_) | CpuStorage::F6E3M2(_) | CpuStorage::F4(_) | CpuStorage::F8E8M0(_) => {
            let dtype = candle_core::backend::BackendStorage::dtype(storage);
            return Err(Error::NotRecordable(format!("{dtype:?}")));
        }
    })
}

fn bytes<T: Copy, const N: usize>(
    data: &[T],
    layout: &Layout,
    to_bytes: impl Fn(T) -> [u8; N],
    visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK.min(layout.shape().elem_count()) * N);
    let mut outcome = Ok(());
    let mut chunk = |values: &[T]| {
        if outcome.is_ok() {
            buffer.clear();
            buffer.extend(values.iter().flat_map(|value| to_bytes(*value)));
            outcome = visit(&buffer);
        }
    };
    match (layout.contiguous_offsets(), data.first()) {
        (Some((start, end)), _) => data[start..end].chunks(CHUNK).for_each(chunk),
        (None, Some(&any)) => {
            let mut gathered = vec![any; CHUNK];
            gather(data, layout, &mut gathered, &mut chunk);
        }
        (None, None) => {}
    }
    outcome
}
