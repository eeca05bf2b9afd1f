//! The elements of a tensor as little-endian bytes of their own type, block by block.

use std::io;

use super::gather::gather;
use super::view::{Elements, TensorView};

/// Elements per call of `visit`: 64 KiB of the widest type.
const CHUNK: usize = 8192;

/// Calls `visit` with the bytes of one block after another in row-major order. It stops at the first error and
/// returns it.
pub(crate) fn visit_bytes(view: &TensorView<'_>, visit: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    match view.elements() {
        Elements::U8(data) | Elements::F8E4M3(data) | Elements::F8E5M2(data) => bytes(data, view, |x| [x], visit),
        Elements::U32(data) => bytes(data, view, u32::to_le_bytes, visit),
        Elements::I16(data) => bytes(data, view, i16::to_le_bytes, visit),
        Elements::I32(data) => bytes(data, view, i32::to_le_bytes, visit),
        Elements::I64(data) => bytes(data, view, i64::to_le_bytes, visit),
        Elements::BF16(data) | Elements::F16(data) => bytes(data, view, u16::to_le_bytes, visit),
        Elements::F32(data) => bytes(data, view, f32::to_le_bytes, visit),
        Elements::F64(data) => bytes(data, view, f64::to_le_bytes, visit),
    }
}

fn bytes<T: Copy, const N: usize>(
    data: &[T],
    view: &TensorView<'_>,
    to_bytes: impl Fn(T) -> [u8; N],
    visit: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(CHUNK.min(view.count()) * N);
    let mut outcome = Ok(());
    let mut chunk = |values: &[T]| {
        if outcome.is_ok() {
            buffer.clear();
            buffer.extend(values.iter().flat_map(|value| to_bytes(*value)));
            outcome = visit(&buffer);
        }
    };
    match (view.range(), data.first()) {
        (Some(range), _) => data[range].chunks(CHUNK).for_each(chunk),
        (None, Some(&any)) => {
            let mut gathered = vec![any; CHUNK];
            gather(data, view, &mut gathered, &mut chunk);
        }
        (None, None) => {}
    }
    outcome
}
