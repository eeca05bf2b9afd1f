//! BLAKE3 of elements as little-endian bytes.

use blake3::Hash;

/// Calls `visit` with the little-endian bytes of elements that are `width` bytes long. On a little-endian
/// processor that is one call with `bytes` itself; otherwise the bytes come in reversed copies of pieces.
pub(super) fn little_endian(bytes: &[u8], width: usize, visit: &mut dyn FnMut(&[u8])) {
    if cfg!(target_endian = "little") {
        visit(bytes);
    } else {
        reversed(bytes, width, visit);
    }
}

fn reversed(bytes: &[u8], width: usize, visit: &mut dyn FnMut(&[u8])) {
    let mut buffer = [0; 4096];
    for piece in bytes.chunks(buffer.len()) {
        let buffer = &mut buffer[..piece.len()];
        buffer.copy_from_slice(piece);
        buffer.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        visit(buffer);
    }
}

/// The hash of bytes that come in pieces. If all bytes come in one piece, BLAKE3 needs no incremental hasher:
/// that saves 3 to 5 % on the tensors of a decode step (the bench `digest`, 1x2560 and 1x6912).
pub(super) struct Hasher {
    /// Total number of bytes that will come.
    bytes: usize,
    received: Received,
}

enum Received {
    Nothing,
    Whole(Hash),
    Pieces(Box<blake3::Hasher>),
}

impl Hasher {
    /// A hasher of `bytes` bytes in total.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, received: Received::Nothing }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        if piece.len() == self.bytes {
            self.received = Received::Whole(blake3::hash(piece));
            return;
        }
        if !matches!(self.received, Received::Pieces(_)) {
            self.received = Received::Pieces(Box::default());
        }
        if let Received::Pieces(hasher) = &mut self.received {
            hasher.update(piece);
        }
    }

    pub(super) fn finish(&self) -> Hash {
        match &self.received {
            Received::Nothing => blake3::hash(b""),
            Received::Whole(hash) => *hash,
            Received::Pieces(hasher) => hasher.finalize(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hasher, reversed};

    #[test]
    fn pieces_hash_like_the_whole() {
        let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        for piece in [1000, 65536, 70_000] {
            let mut hasher = Hasher::new(bytes.len());
            bytes.chunks(piece).for_each(|piece| hasher.update(piece));
            assert_eq!(hasher.finish(), blake3::hash(&bytes));
        }
        assert_eq!(Hasher::new(0).finish(), blake3::hash(b""));
    }

    #[test]
    fn big_endian_elements_are_reversed_one_by_one() {
        for width in [4, 8] {
            let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
            let mut found = Vec::new();
            reversed(&bytes, width, &mut |piece| found.extend_from_slice(piece));
            let expected: Vec<u8> = bytes.chunks(width).flat_map(|element| element.iter().rev().copied()).collect();
            assert_eq!(found, expected);
        }
    }
}
