//! The parts of a digest in the form in which records hold them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake3::Hash;

use super::Digest;
use super::constants::BUCKETS;

impl Digest {
    /// The BLAKE3 as 64 hex digits.
    #[must_use]
    pub fn blake3_text(&self) -> String {
        hash_hex(self.blake3)
    }

    /// The BLAKE3 of the native bytes as 64 hex digits; `None` for types whose values f32 holds exactly.
    #[must_use]
    pub fn raw_blake3_text(&self) -> Option<String> {
        self.raw_blake3.map(hash_hex)
    }

    /// The 64 sums of the sketch as little-endian f32 in base64; `None` if no sketch was asked for.
    #[must_use]
    pub fn sketch_text(&self) -> Option<String> {
        let mut bytes = [0; size_of::<f32>() * BUCKETS];
        for (to, from) in bytes.chunks_exact_mut(size_of::<f32>()).zip(self.sketch.as_ref()?) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        Some(STANDARD.encode(bytes))
    }

    /// The hash of each row as 16 hex digits; `None` if row hashes were not asked for.
    #[must_use]
    pub fn rows_text(&self) -> Option<Vec<String>> {
        let rows = self.rows.as_ref()?;
        Some(rows.iter().map(|row| format!("{:016x}", u64::from_be_bytes(*row))).collect())
    }
}

fn hash_hex(hash: Hash) -> String {
    hash.to_hex().as_str().to_owned()
}
