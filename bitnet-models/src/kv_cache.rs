//! The keys and values of the positions that were computed so far.

use std::fmt;

use candle_core::Tensor;

use crate::config::Config;
use crate::error::Result;
use crate::tensors::with_values;

/// Positions that memory is taken for at once. What was written stays where it is when more is taken.
const SEGMENT: usize = 256;

/// The state of a sequence between calls: the keys and values of every block.
#[derive(Debug, Clone)]
pub struct KvCache {
    layers: Vec<Layer>,
    pub(crate) positions: usize,
    pub(crate) steps: usize,
}

/// One block's keys and values. What is at positions that the cache does not count is of a call that failed.
#[derive(Clone)]
pub(crate) struct Layer {
    kv_heads: usize,
    head_dim: usize,
    segments: Vec<Segment>,
}

/// `[SEGMENT, key-value heads * head_dim]` each; the system gives the memory when it is written to.
#[derive(Clone)]
struct Segment {
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl KvCache {
    /// An empty cache.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let layer = Layer { kv_heads: config.num_key_value_heads, head_dim: config.head_dim, segments: Vec::new() };
        Self { layers: vec![layer; config.num_hidden_layers], positions: 0, steps: 0 }
    }

    /// How many positions have been computed, which is the position of the next token.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// How many calls have been made: 0 before prefill, then the number of the decode step.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    pub(crate) fn layers_mut(&mut self) -> &mut [Layer] {
        &mut self.layers
    }
}

impl Layer {
    /// Keeps the keys `[1, key-value heads, tokens, head_dim]` and the values `[1, tokens, key-value heads * head_dim]` of
    /// the positions from `position` on.
    pub(crate) fn write(&mut self, position: usize, keys: &Tensor, values: &Tensor) -> Result<()> {
        let (_, tokens, width) = values.dims3()?;
        let size = SEGMENT * width;
        while self.segments.len() * SEGMENT < position + tokens {
            self.segments.push(Segment { keys: vec![0.0; size], values: vec![0.0; size] });
        }
        let head_dim = self.head_dim;
        with_values(keys, |keys| {
            for (row, key) in keys.chunks_exact(head_dim).enumerate() {
                let (head, position) = (row / tokens, position + row % tokens);
                let segment = &mut self.segments[position / SEGMENT].keys;
                segment[position % SEGMENT * width + head * head_dim..][..head_dim].copy_from_slice(key);
            }
        })?;
        with_values(values, |values| {
            for (row, value) in values.chunks_exact(width).enumerate() {
                let position = position + row;
                let segment = &mut self.segments[position / SEGMENT].values;
                segment[position % SEGMENT * width..][..width].copy_from_slice(value);
            }
        })
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// From one position's row to the next one's in [`Self::keys`] and [`Self::values`].
    pub(crate) fn stride(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The keys of a head at the first positions, in pieces: how many positions, and from the first of them on the elements.
    pub(crate) fn keys(&self, head: usize, positions: usize) -> impl Iterator<Item = (usize, &[f32])> {
        self.pieces(head, positions, |segment| &segment.keys)
    }

    /// The values, likewise.
    pub(crate) fn values(&self, head: usize, positions: usize) -> impl Iterator<Item = (usize, &[f32])> {
        self.pieces(head, positions, |segment| &segment.values)
    }

    fn pieces(
        &self,
        head: usize,
        positions: usize,
        of: impl Fn(&Segment) -> &[f32],
    ) -> impl Iterator<Item = (usize, &[f32])> {
        let counts = (0..positions).step_by(SEGMENT).map(move |first| SEGMENT.min(positions - first));
        let from = head * self.head_dim;
        counts.zip(&self.segments).map(move |(count, segment)| (count, &of(segment)[from..]))
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kv_heads, head_dim, segments } = self;
        let room = segments.len() * SEGMENT;
        f.debug_struct("Layer").field("kv_heads", kv_heads).field("head_dim", head_dim).field("room", &room).finish()
    }
}
