//! A short hash for each row of the last dimension. It shows in which rows two tensors differ.

use blake3::{Hash, Hasher};

/// Number of bytes that are kept of a row's hash.
const KEPT: usize = 8;

/// Rows that memory is reserved for at once: a broadcast view may have more rows than there is memory.
const AT_ONCE: usize = 1 << 20;

/// The hashes of the rows seen so far.
pub(super) struct RowHashes {
    /// Number of bytes in a row.
    row: usize,
    hashes: Vec<[u8; KEPT]>,
    /// The hasher of the row that the last block left unfinished.
    partial: Box<Hasher>,
    /// Number of bytes of that row so far.
    filled: usize,
}

impl RowHashes {
    /// The state for a tensor of this shape. A scalar is one row of one element; an empty tensor has no rows.
    pub(super) fn new(dimensions: &[usize]) -> Self {
        let elements: usize = dimensions.iter().product();
        let row = dimensions.last().copied().unwrap_or(1);
        let rows = elements.checked_div(row).unwrap_or(0);
        Self {
            row: row * size_of::<f32>(),
            hashes: Vec::with_capacity(rows.min(AT_ONCE)),
            partial: Box::default(),
            filled: 0,
        }
    }

    /// Adds elements as little-endian f32.
    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (piece, rest) = bytes.split_at((self.row - self.filled).min(bytes.len()));
            bytes = rest;
            if piece.len() == self.row {
                self.hashes.push(first_bytes(blake3::hash(piece)));
                continue;
            }
            self.partial.update(piece);
            self.filled += piece.len();
            if self.filled == self.row {
                self.hashes.push(first_bytes(self.partial.finalize()));
                self.partial.reset();
                self.filled = 0;
            }
        }
    }

    pub(super) fn finish(self) -> Vec<[u8; KEPT]> {
        self.hashes
    }
}

/// The bytes that are kept of a row's hash.
pub(super) fn first_bytes(hash: Hash) -> [u8; KEPT] {
    let mut kept = [0; KEPT];
    kept.copy_from_slice(&hash.as_bytes()[..KEPT]);
    kept
}
