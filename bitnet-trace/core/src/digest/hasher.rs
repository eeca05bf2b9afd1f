//! BLAKE3 of elements as little-endian bytes.

use blake3::Hash;

/// Calls `visit` with the little-endian bytes of elements `width` bytes long: on a little-endian
/// processor where they lie, else in pieces.
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

/// The hash of bytes that come in pieces. Bytes that come in one piece need no hasher with a state:
/// that saves 3 to 5 % on the tensors of a decode step (the bench `digest`, 1x2560 and 1x6912).
pub(super) struct Hasher {
    bytes: usize,
    state: State,
}

enum State {
    Nothing,
    Whole(Hash),
    Pieces(Box<blake3::Hasher>),
}

impl Hasher {
    /// Of this many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, state: State::Nothing }
    }

    pub(super) fn update(&mut self, piece: &[u8]) {
        if piece.len() == self.bytes {
            self.state = State::Whole(blake3::hash(piece));
            return;
        }
        if !matches!(self.state, State::Pieces(_)) {
            self.state = State::Pieces(Box::default());
        }
        if let State::Pieces(hasher) = &mut self.state {
            hasher.update(piece);
        }
    }

    pub(super) fn finish(&self) -> Hash {
        match &self.state {
            State::Nothing => blake3::hash(b""),
            State::Whole(hash) => *hash,
            State::Pieces(hasher) => hasher.finalize(),
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
