//! candle's CPU storage as blocks of f32 in row-major logical order.
//!
//! Contiguous F32 is handed out where it lies. Everything else goes block by block through buffers
//! of at most 64 KiB, so that nothing of the tensor's size is ever allocated.

use candle_core::{CpuStorage, Layout};

use super::stats::SUB_BLOCK;
use crate::error::Error;

/// Largest buffer, in bytes. Below 64 KiB BLAKE3 loses speed, above it there is nothing to gain.
const BUFFER: usize = 64 * 1024;

/// A run of elements. All blocks but a tensor's last are whole numbers of sub-blocks.
pub(crate) struct Block<'a> {
    /// The elements converted to f32 as candle does.
    pub(crate) values: &'a [f32],
    /// The same elements as native little-endian bytes, where f32 cannot tell them all apart.
    pub(crate) native: Option<&'a [u8]>,
}

/// Whether different values of the type can become the same f32.
pub(crate) fn f32_is_lossy(storage: &CpuStorage) -> bool {
    matches!(storage, CpuStorage::F64(_) | CpuStorage::I64(_) | CpuStorage::U32(_) | CpuStorage::I32(_))
}

/// Calls `visit` for block after block of the tensor.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // that is what f32 means here
#[allow(clippy::redundant_closure_for_method_calls)] // naming the method takes the types' crates
pub(crate) fn visit(storage: &CpuStorage, layout: &Layout, visit: &mut dyn FnMut(Block<'_>)) -> Result<(), Error> {
    match storage {
        CpuStorage::F32(data) => chunks(data, layout, |values| visit(Block { values, native: None })),
        CpuStorage::F16(data) => widen(data, layout, |x| x.to_f32(), visit),
        CpuStorage::BF16(data) => widen(data, layout, |x| x.to_f32(), visit),
        CpuStorage::F8E4M3(data) => widen(data, layout, |x| x.to_f32(), visit),
        CpuStorage::U8(data) => widen(data, layout, |x| f32::from(*x), visit),
        CpuStorage::I16(data) => widen(data, layout, |x| f32::from(*x), visit),
        CpuStorage::U32(data) => narrow(data, layout, |x| *x as f32, |x| x.to_le_bytes(), visit),
        CpuStorage::I32(data) => narrow(data, layout, |x| *x as f32, |x| x.to_le_bytes(), visit),
        CpuStorage::I64(data) => narrow(data, layout, |x| *x as f32, |x| x.to_le_bytes(), visit),
        CpuStorage::F64(data) => narrow(data, layout, |x| *x as f32, |x| x.to_le_bytes(), visit),
        CpuStorage::F6E2M3(_) | CpuStorage::F6E3M2(_) | CpuStorage::F4(_) | CpuStorage::F8E8M0(_) => {
            return Err(Error::NotRecordable(format!("{:?}", candle_core::backend::BackendStorage::dtype(storage))));
        }
    }
    Ok(())
}

/// The values' little-endian bytes, in pieces of at most 4 KiB.
pub(crate) fn little_endian(values: &[f32], bytes: &mut dyn FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    for piece in values.chunks(buffer.len() / 4) {
        for (to, from) in buffer.chunks_exact_mut(4).zip(piece) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        bytes(&buffer[..piece.len() * 4]);
    }
}

/// For types that f32 holds exactly.
fn widen<T: Copy>(data: &[T], layout: &Layout, to_f32: impl Fn(&T) -> f32, visit: &mut dyn FnMut(Block<'_>)) {
    let mut values = Vec::with_capacity(BUFFER / 4);
    chunks(data, layout, |chunk| {
        values.clear();
        values.extend(chunk.iter().map(&to_f32));
        visit(Block { values: &values, native: None });
    });
}

/// For types of which f32 loses something.
fn narrow<T: Copy, const N: usize>(
    data: &[T],
    layout: &Layout,
    to_f32: impl Fn(&T) -> f32,
    to_bytes: impl Fn(&T) -> [u8; N],
    visit: &mut dyn FnMut(Block<'_>),
) {
    let mut values = Vec::with_capacity(BUFFER / 4);
    let mut native = Vec::with_capacity(BUFFER);
    chunks(data, layout, |chunk| {
        values.clear();
        values.extend(chunk.iter().map(&to_f32));
        native.clear();
        native.extend(chunk.iter().flat_map(&to_bytes));
        visit(Block { values: &values, native: Some(&native) });
    });
}

/// Hands out the elements in logical order, in runs of [`chunk_len`] (the last one shorter).
fn chunks<T: Copy>(data: &[T], layout: &Layout, mut chunk: impl FnMut(&[T])) {
    let len = chunk_len::<T>();
    if let Some((start, end)) = layout.contiguous_offsets() {
        data[start..end].chunks(len).for_each(chunk);
        return;
    }
    let mut gathered: Vec<T> = Vec::with_capacity(len);
    let rows = Rows::new(layout);
    let (row_len, stride) = (rows.len, rows.stride);
    for start in rows {
        let mut taken = 0;
        while taken < row_len {
            let fits = (row_len - taken).min(len - gathered.len());
            let from = start + taken * stride;
            match stride {
                0 => gathered.extend(std::iter::repeat_n(data[from], fits)),
                1 => gathered.extend_from_slice(&data[from..from + fits]),
                _ => gathered.extend(data[from..].iter().step_by(stride).take(fits)),
            }
            taken += fits;
            if gathered.len() == len {
                chunk(&gathered);
                gathered.clear();
            }
        }
    }
    if !gathered.is_empty() {
        chunk(&gathered);
    }
}

/// The storage offsets at which the innermost rows of a strided tensor begin, in logical order.
///
/// Neighbouring dimensions that lie in storage like one are taken as one first, so that rows are as
/// long as they can be.
struct Rows {
    /// Elements in a row, and the distance between two of them.
    len: usize,
    stride: usize,
    /// (size, stride, position) of the dimensions outside the row, slowest first.
    outer: Vec<(usize, usize, usize)>,
    /// Where the next row begins.
    next: Option<usize>,
}

impl Rows {
    fn new(layout: &Layout) -> Self {
        let mut dimensions: Vec<(usize, usize)> = Vec::new();
        for (&size, &stride) in layout.dims().iter().zip(layout.stride()) {
            match dimensions.last_mut() {
                _ if size == 1 => {}
                Some((outer, outer_stride)) if *outer_stride == size * stride => {
                    (*outer, *outer_stride) = (*outer * size, stride);
                }
                _ => dimensions.push((size, stride)),
            }
        }
        let (len, stride) = dimensions.pop().unwrap_or((1, 1));
        let empty = layout.dims().contains(&0);
        Self {
            len,
            stride,
            outer: dimensions.into_iter().map(|(size, stride)| (size, stride, 0)).collect(),
            next: (!empty).then_some(layout.start_offset()),
        }
    }
}

impl Iterator for Rows {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let start = self.next?;
        let mut offset = start;
        // An odometer: the fastest dimension that has not come round moves on.
        self.next = self.outer.iter_mut().rev().find_map(|(size, stride, position)| {
            *position += 1;
            offset += *stride;
            if *position < *size {
                return Some(offset);
            }
            offset -= *size * *stride;
            *position = 0;
            None
        });
        Some(start)
    }
}

/// Elements in a block: a whole number of sub-blocks, in [`BUFFER`] both as `T` and as f32.
const fn chunk_len<T>() -> usize {
    let size = if size_of::<T>() > 4 { size_of::<T>() } else { 4 };
    BUFFER / size / SUB_BLOCK * SUB_BLOCK
}
