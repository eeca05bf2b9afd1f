//! candle's CPU storage as blocks of f32 in row-major logical order.
//!
//! Contiguous F32 is handed out where it lies. Everything else goes block by block through two
//! buffers of 64 KiB a thread, so that nothing of the tensor's size is ever allocated.

use std::cell::Cell;

use bytemuck::{Pod, Zeroable};
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, Layout};
use half::slice::HalfFloatSliceExt;

use super::gather::gather;
use super::kernel::{Kernel, SUB_BLOCK};
use crate::error::Error;

/// Largest block, in bytes. Below 64 KiB BLAKE3 loses speed, above it there is nothing to gain.
pub(super) const BLOCK: usize = 64 * 1024;

/// Largest block that needs no buffer: BLAKE3 is a few per cent faster on it, and it still stays in
/// a second-level cache between being summed and being hashed.
const IN_PLACE: usize = 128 * 1024;

/// A run of elements. All blocks but a tensor's last are whole numbers of sub-blocks.
pub(super) struct Block<'a> {
    /// The elements converted to f32 as candle does.
    pub(super) values: &'a [f32],
    /// The same elements as they are, where f32 cannot tell them all apart.
    pub(super) native: Option<Native<'a>>,
}

/// Elements as bytes in the order of this processor.
pub(super) struct Native<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes in an element.
    pub(super) width: usize,
}

/// Whether different values of the type can become the same f32.
pub(super) fn f32_is_lossy(storage: &CpuStorage) -> bool {
    matches!(storage, CpuStorage::F64(_) | CpuStorage::I64(_) | CpuStorage::U32(_) | CpuStorage::I32(_))
}

/// Calls `visit` for block after block of the tensor.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // that is what f32 means here
#[allow(clippy::redundant_closure_for_method_calls)] // naming the method takes the type's crate
pub(super) fn visit(
    kernel: Kernel,
    storage: &CpuStorage,
    layout: &Layout,
    visit: &mut dyn FnMut(Block<'_>),
) -> Result<(), Error> {
    let mut buffers = Buffers::take();
    let mut source = Source { layout, buffers: &mut buffers, visit };
    match storage {
        CpuStorage::F32(data) => source.as_they_are(data),
        CpuStorage::BF16(data) => source.widened(data.reinterpret_cast(), |from, to| kernel.widen_bf16(from, to)),
        CpuStorage::F16(data) => source.widened(data.reinterpret_cast(), |from, to| kernel.widen_f16(from, to)),
        CpuStorage::U8(data) => source.widened(data, |from, to| each(from, to, f32::from)),
        CpuStorage::I16(data) => source.widened(data, |from, to| each(from, to, f32::from)),
        CpuStorage::F8E4M3(data) => source.without_bytes(data, |from, to| each(from, to, |x| x.to_f32())),
        CpuStorage::U32(data) => source.narrowed(data, |x| x as f32),
        CpuStorage::I32(data) => source.narrowed(data, |x| x as f32),
        CpuStorage::I64(data) => source.narrowed(data, |x| x as f32),
        CpuStorage::F64(data) => source.narrowed(data, |x| x as f32),
        CpuStorage::F6E2M3(_) | CpuStorage::F6E3M2(_) | CpuStorage::F4(_) | CpuStorage::F8E8M0(_) => {
            return Err(Error::NotRecordable(format!("{:?}", storage.dtype())));
        }
    }
    buffers.put_back();
    Ok(())
}

fn each<T: Copy>(from: &[T], to: &mut [f32], convert: impl Fn(T) -> f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
}

/// A tensor being read.
struct Source<'a> {
    layout: &'a Layout,
    buffers: &'a mut Buffers,
    visit: &'a mut dyn FnMut(Block<'_>),
}

impl Source<'_> {
    /// f32 itself.
    fn as_they_are(&mut self, data: &[f32]) {
        let visit = |values: &[f32]| (self.visit)(Block { values, native: None });
        match self.layout.contiguous_offsets() {
            Some((start, end)) => data[start..end].chunks(IN_PLACE / size_of::<f32>()).for_each(visit),
            None => chunks(data, self.layout, &mut self.buffers.gathered, visit),
        }
    }

    /// Types that f32 holds exactly.
    fn widened<T: Pod>(&mut self, data: &[T], convert: impl Fn(&[T], &mut [f32])) {
        let Buffers { values, gathered } = &mut *self.buffers;
        let values = aligned(values, self.layout);
        chunks(data, self.layout, gathered, |chunk| {
            let values = &mut values[..chunk.len()];
            convert(chunk, values);
            (self.visit)(Block { values, native: None });
        });
    }

    /// Types of which f32 loses something.
    fn narrowed<T: Pod>(&mut self, data: &[T], convert: impl Fn(T) -> f32) {
        let Buffers { values, gathered } = &mut *self.buffers;
        let values = aligned(values, self.layout);
        chunks(data, self.layout, gathered, |chunk| {
            let values = &mut values[..chunk.len()];
            each(chunk, values, &convert);
            let native = Native { bytes: bytemuck::cast_slice(chunk), width: size_of::<T>() };
            (self.visit)(Block { values, native: Some(native) });
        });
    }

    /// Types that the shared buffer cannot hold, because they do not promise what their bytes are.
    fn without_bytes<T: Copy>(&mut self, data: &[T], convert: impl Fn(&[T], &mut [f32])) {
        let values = aligned(&mut self.buffers.values, self.layout);
        let chunk = |chunk: &[T]| {
            let values = &mut values[..chunk.len()];
            convert(chunk, values);
            (self.visit)(Block { values, native: None });
        };
        match (self.layout.contiguous_offsets(), data.first()) {
            (Some((start, end)), _) => data[start..end].chunks(chunk_len::<T>()).for_each(chunk),
            (None, Some(&any)) => {
                let mut gathered = vec![any; chunk_len::<T>().min(self.layout.shape().elem_count())];
                gather(data, self.layout, &mut gathered, chunk);
            }
            (None, None) => {}
        }
    }
}

/// Hands out the elements in logical order, in runs of [`chunk_len`] (the last one shorter).
fn chunks<T: Pod>(data: &[T], layout: &Layout, gathered: &mut Vec<u64>, chunk: impl FnMut(&[T])) {
    let len = chunk_len::<T>();
    if let Some((start, end)) = layout.contiguous_offsets() {
        data[start..end].chunks(len).for_each(chunk);
        return;
    }
    let len = len.min(layout.shape().elem_count());
    let words = (len * size_of::<T>()).div_ceil(8);
    if gathered.len() < words {
        gathered.reserve_exact(words - gathered.len());
        gathered.resize(words, 0);
    }
    gather(data, layout, &mut bytemuck::cast_slice_mut(gathered)[..len], chunk);
}

/// Elements in a block: a whole number of sub-blocks, within [`BLOCK`] both as `T` and as f32.
const fn chunk_len<T>() -> usize {
    let size = if size_of::<T>() > 4 { size_of::<T>() } else { 4 };
    BLOCK / size / SUB_BLOCK * SUB_BLOCK
}

/// Reused from tensor to tensor: fresh memory would cost a page fault every 4 KiB.
#[derive(Default)]
struct Buffers {
    values: Vec<Line>,
    gathered: Vec<u64>,
}

thread_local! {
    static BUFFERS: Cell<Option<Buffers>> = const { Cell::new(None) };
}

impl Buffers {
    /// New ones where the thread has none: the first time, and while it ends.
    fn take() -> Self {
        BUFFERS.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    fn put_back(self) {
        // On a thread that is ending they are freed instead.
        let _ = BUFFERS.try_with(|buffers| buffers.set(Some(self)));
    }
}

/// A cache line: buffers of these begin at one.
#[derive(Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// Room for a block or the tensor, whichever is smaller.
fn aligned<'a>(buffer: &'a mut Vec<Line>, layout: &Layout) -> &'a mut [f32] {
    let len = layout.shape().elem_count().min(BLOCK / size_of::<f32>());
    let lines = (len * size_of::<f32>()).div_ceil(size_of::<Line>());
    if buffer.len() < lines {
        // Not more than a block even for a moment: growth by doubling would be.
        buffer.reserve_exact(lines - buffer.len());
        buffer.resize(lines, Line::zeroed());
    }
    &mut bytemuck::cast_slice_mut(buffer)[..len]
}
