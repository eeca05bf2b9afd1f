//! Cuts a view into blocks of f32 in row-major logical order.
//!
//! Blocks of contiguous F32 are slices of the storage. Everything else goes block by block through two
//! buffers of 64 KiB per thread, so that memory of the tensor's size is never allocated.

use std::cell::Cell;

use bytemuck::Pod;

use super::constants::SUB_BLOCK;
use super::dtype::{f8e4m3, f8e5m2};
use super::gather::gather;
use super::kernel::Kernel;
use super::view::{Elements, TensorView};

/// Size of the largest block in bytes. With smaller blocks BLAKE3 loses speed, with larger ones it gains none.
pub(super) const BLOCK: usize = 64 * 1024;

/// Size in bytes of the largest block that needs no buffer. BLAKE3 is a few per cent faster on it, and it still
/// stays in a second-level cache between hashing and summing.
const IN_PLACE: usize = 128 * 1024;

/// A run of elements. Every block except a tensor's last is a whole number of sub-blocks.
pub(super) struct Block<'a> {
    /// The elements converted to f32 as candle converts them.
    pub(super) values: &'a [f32],
    /// The same elements in their own type; `None` for types whose values f32 holds exactly.
    pub(super) native: Option<Native<'a>>,
}

/// Elements as bytes in the byte order of this processor.
pub(super) struct Native<'a> {
    pub(super) bytes: &'a [u8],
    /// Bytes per element.
    pub(super) width: usize,
}

/// Calls `visit` with one block of the tensor after another.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // the digest is defined on rounded f32
pub(super) fn visit(kernel: Kernel, view: &TensorView<'_>, visit: &mut dyn FnMut(Block<'_>)) {
    let mut buffers = Buffers::take();
    let mut reader = BlockReader { view, buffers: &mut buffers, visit };
    match view.elements() {
        Elements::F32(data) => reader.unconverted(data),
        Elements::BF16(data) => reader.widened(data, |from, to| kernel.widen_bf16(from, to)),
        Elements::F16(data) => reader.widened(data, |from, to| kernel.widen_f16(from, to)),
        Elements::U8(data) => reader.widened(data, |from, to| each(from, to, f32::from)),
        Elements::I16(data) => reader.widened(data, |from, to| each(from, to, f32::from)),
        Elements::F8E4M3(data) => reader.widened(data, |from, to| each(from, to, f8e4m3)),
        Elements::F8E5M2(data) => reader.widened(data, |from, to| each(from, to, f8e5m2)),
        Elements::U32(data) => reader.narrowed(data, |x| x as f32),
        Elements::I32(data) => reader.narrowed(data, |x| x as f32),
        Elements::I64(data) => reader.narrowed(data, |x| x as f32),
        Elements::F64(data) => reader.narrowed(data, |x| x as f32),
    }
    buffers.put_back();
}

fn each<T: Copy>(from: &[T], to: &mut [f32], convert: impl Fn(T) -> f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
}

/// Reads a tensor block by block.
struct BlockReader<'a> {
    view: &'a TensorView<'a>,
    buffers: &'a mut Buffers,
    visit: &'a mut dyn FnMut(Block<'_>),
}

impl BlockReader<'_> {
    /// Reads f32, which needs no conversion.
    fn unconverted(&mut self, data: &[f32]) {
        let visit = |values: &[f32]| (self.visit)(Block { values, native: None });
        match self.view.range() {
            Some(range) => data[range].chunks(IN_PLACE / size_of::<f32>()).for_each(visit),
            None => chunks(data, self.view, &mut self.buffers.gathered, visit),
        }
    }

    /// Reads types whose values f32 holds exactly.
    fn widened<T: Pod>(&mut self, data: &[T], convert: impl Fn(&[T], &mut [f32])) {
        let Buffers { values, gathered } = &mut *self.buffers;
        let values = aligned(values, self.view);
        chunks(data, self.view, gathered, |chunk| {
            let values = &mut values[..chunk.len()];
            convert(chunk, values);
            (self.visit)(Block { values, native: None });
        });
    }

    /// Reads types whose values f32 may round.
    fn narrowed<T: Pod>(&mut self, data: &[T], convert: impl Fn(T) -> f32) {
        let Buffers { values, gathered } = &mut *self.buffers;
        let values = aligned(values, self.view);
        chunks(data, self.view, gathered, |chunk| {
            let values = &mut values[..chunk.len()];
            each(chunk, values, &convert);
            let native = Native { bytes: bytemuck::cast_slice(chunk), width: size_of::<T>() };
            (self.visit)(Block { values, native: Some(native) });
        });
    }
}

/// Calls `chunk` with the elements in logical order, [`chunk_len`] at a time; the last call may have fewer.
fn chunks<T: Pod>(data: &[T], view: &TensorView<'_>, gathered: &mut Vec<u64>, chunk: impl FnMut(&[T])) {
    let len = chunk_len::<T>();
    if let Some(range) = view.range() {
        data[range].chunks(len).for_each(chunk);
        return;
    }
    let len = len.min(view.count());
    let words = (len * size_of::<T>()).div_ceil(8);
    if gathered.len() < words {
        gathered.reserve_exact(words - gathered.len());
        gathered.resize(words, 0);
    }
    gather(data, view, &mut bytemuck::cast_slice_mut(gathered)[..len], chunk);
}

/// Number of elements in a block: a whole number of sub-blocks that takes at most [`BLOCK`] bytes both as `T` and
/// as f32.
const fn chunk_len<T>() -> usize {
    let size = if size_of::<T>() > 4 { size_of::<T>() } else { 4 };
    BLOCK / size / SUB_BLOCK * SUB_BLOCK
}

/// Buffers that are reused from tensor to tensor, because fresh memory would cost a page fault every 4 KiB.
#[derive(Default)]
struct Buffers {
    /// A block, and as many elements before it as are needed to begin it at a cache line.
    values: Vec<f32>,
    gathered: Vec<u64>,
}

thread_local! {
    static BUFFERS: Cell<Option<Buffers>> = const { Cell::new(None) };
}

impl Buffers {
    /// Takes the thread's buffers. Makes new ones if the thread has none: the first time, and while it ends.
    fn take() -> Self {
        BUFFERS.try_with(Cell::take).ok().flatten().unwrap_or_default()
    }

    fn put_back(self) {
        // On a thread that is ending this fails, and the buffers are freed instead.
        let _ = BUFFERS.try_with(|buffers| buffers.set(Some(self)));
    }
}

/// Size of a cache line in bytes.
const CACHE_LINE: usize = 64;

/// A part of the buffer for a block or for the tensor, whichever is smaller. It begins at a cache line.
fn aligned<'a>(buffer: &'a mut Vec<f32>, view: &TensorView<'_>) -> &'a mut [f32] {
    const MOST_BEFORE: usize = CACHE_LINE / size_of::<f32>() - 1;
    let len = view.count().min(BLOCK / size_of::<f32>());
    let with_room = len + MOST_BEFORE;
    if buffer.len() < with_room {
        // `resize` alone would double the capacity, to more than a block.
        buffer.reserve_exact(with_room - buffer.len());
        buffer.resize(with_room, 0.0);
    }
    let before = buffer.as_ptr().align_offset(CACHE_LINE).min(MOST_BEFORE);
    &mut buffer[before..before + len]
}
