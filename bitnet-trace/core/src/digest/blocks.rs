//! A view as blocks of f32 in row-major logical order.
//!
//! Contiguous F32 is handed out where it lies. Everything else goes block by block through two
//! buffers of 64 KiB a thread, so that nothing of the tensor's size is ever allocated.

use std::cell::Cell;

use bytemuck::{Pod, Zeroable};

use super::dtype::{f8e4m3, f8e5m2};
use super::gather::gather;
use super::kernel::{Kernel, SUB_BLOCK};
use super::view::{Elements, TensorView};

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

/// Calls `visit` for block after block of the tensor.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // that is what f32 means here
pub(super) fn visit(kernel: Kernel, view: &TensorView<'_>, visit: &mut dyn FnMut(Block<'_>)) {
    let mut buffers = Buffers::take();
    let mut source = Source { view, buffers: &mut buffers, visit };
    match view.elements() {
        Elements::F32(data) => source.as_they_are(data),
        Elements::BF16(data) => source.widened(data, |from, to| kernel.widen_bf16(from, to)),
        Elements::F16(data) => source.widened(data, |from, to| kernel.widen_f16(from, to)),
        Elements::U8(data) => source.widened(data, |from, to| each(from, to, f32::from)),
        Elements::I16(data) => source.widened(data, |from, to| each(from, to, f32::from)),
        Elements::F8E4M3(data) => source.widened(data, |from, to| each(from, to, f8e4m3)),
        Elements::F8E5M2(data) => source.widened(data, |from, to| each(from, to, f8e5m2)),
        Elements::U32(data) => source.narrowed(data, |x| x as f32),
        Elements::I32(data) => source.narrowed(data, |x| x as f32),
        Elements::I64(data) => source.narrowed(data, |x| x as f32),
        Elements::F64(data) => source.narrowed(data, |x| x as f32),
    }
    buffers.put_back();
}

fn each<T: Copy>(from: &[T], to: &mut [f32], convert: impl Fn(T) -> f32) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = convert(*from);
    }
}

/// A tensor being read.
struct Source<'a> {
    view: &'a TensorView<'a>,
    buffers: &'a mut Buffers,
    visit: &'a mut dyn FnMut(Block<'_>),
}

impl Source<'_> {
    /// f32 itself.
    fn as_they_are(&mut self, data: &[f32]) {
        let visit = |values: &[f32]| (self.visit)(Block { values, native: None });
        match self.view.range() {
            Some(range) => data[range].chunks(IN_PLACE / size_of::<f32>()).for_each(visit),
            None => chunks(data, self.view, &mut self.buffers.gathered, visit),
        }
    }

    /// Types that f32 holds exactly.
    fn widened<T: Pod>(&mut self, data: &[T], convert: impl Fn(&[T], &mut [f32])) {
        let Buffers { values, gathered } = &mut *self.buffers;
        let values = aligned(values, self.view);
        chunks(data, self.view, gathered, |chunk| {
            let values = &mut values[..chunk.len()];
            convert(chunk, values);
            (self.visit)(Block { values, native: None });
        });
    }

    /// Types of which f32 loses something.
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

/// Hands out the elements in logical order, in runs of [`chunk_len`] (the last one shorter).
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
fn aligned<'a>(buffer: &'a mut Vec<Line>, view: &TensorView<'_>) -> &'a mut [f32] {
    let len = view.count().min(BLOCK / size_of::<f32>());
    let lines = (len * size_of::<f32>()).div_ceil(size_of::<Line>());
    if buffer.len() < lines {
        // Not more than a block even for a moment: growth by doubling would be.
        buffer.reserve_exact(lines - buffer.len());
        buffer.resize(lines, Line::zeroed());
    }
    &mut bytemuck::cast_slice_mut(buffer)[..len]
}
