//! The part of a record that is read first: its key and its digests.

use std::borrow::Cow;
use std::fmt;

use serde_core::de::{self, Deserialize, Deserializer, IgnoredAny, Visitor};

use crate::record::{NegativeIsNone, TraceRecord};
use crate::serial::impl_serde;

/// The part of a record that is read first. The rest of the JSON is skipped.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Head<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: Cow<'a, str>,
    pub(crate) blake3: Cow<'a, str>,
    pub(crate) seq_index: Option<usize>,
    pub(crate) layer_idx: Option<usize>,
    pub(crate) stage: Option<Text<'a>>,
    pub(crate) order: Option<u64>,
    pub(crate) call: usize,
    pub(crate) output: Option<Text<'a>>,
    pub(crate) io: Option<Text<'a>>,
    pub(crate) request: Option<u64>,
    pub(crate) tokens: Option<[usize; 2]>,
    pub(crate) raw_blake3: Option<Text<'a>>,
    /// These two fields are not used, but every record must have them.
    #[allow(dead_code)]
    pub(crate) rms: IgnoredAny,
    #[allow(dead_code)]
    pub(crate) num_elements: IgnoredAny,
}

impl_serde! {
    Deserialize for Head<'a> {
        name as Text, shape, dtype as Text, blake3 as Text, seq_index or "seq" [default],
        layer_idx or "layer" as NegativeIsNone [default], stage [default], order [default], call [default],
        output [default], io [default], request [default], tokens [default], raw_blake3 [default], rms, num_elements,
    }
}

/// A text that is borrowed if the JSON has no escapes. serde never borrows for a `Cow<str>`.
#[cfg_attr(test, derive(Debug, PartialEq))]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Borrowed)
    }
}

struct Borrowed;

impl<'de> Visitor<'de> for Borrowed {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl Head<'_> {
    pub(crate) fn io(&self) -> Option<&str> {
        self.io.as_ref().map(|io| &*io.0)
    }

    pub(crate) fn stage(&self) -> Option<&str> {
        self.stage.as_ref().map(|stage| &*stage.0)
    }

    pub(crate) fn output(&self) -> Option<&str> {
        self.output.as_ref().map(|output| &*output.0)
    }

    /// Whether this is a weight. Weights have names of their own and belong to no step.
    pub(crate) fn is_weight(&self) -> bool {
        self.io() == Some("weight")
    }

    /// Whether this is a gradient. It has the name of its tensor, which is no stage of the computation.
    pub(crate) fn is_gradient(&self) -> bool {
        self.io() == Some("grad")
    }

    pub(crate) fn raw_hash(&self) -> Option<Box<Hash>> {
        self.raw_blake3.as_ref().map(|raw| Box::new(Hash::parse(&raw.0)))
    }
}

impl<'a> From<&'a TraceRecord> for Head<'a> {
    fn from(record: &'a TraceRecord) -> Self {
        let borrowed = |text: &'a Option<String>| text.as_deref().map(Text::from);
        Self {
            name: Cow::Borrowed(&record.name),
            shape: record.shape.clone(),
            dtype: Cow::Borrowed(&record.dtype),
            blake3: Cow::Borrowed(&record.blake3),
            seq_index: record.seq_index,
            layer_idx: record.layer_idx,
            stage: borrowed(&record.stage),
            order: record.order,
            call: record.call,
            output: borrowed(&record.output),
            io: borrowed(&record.io),
            request: record.request,
            tokens: record.tokens,
            raw_blake3: borrowed(&record.raw_blake3),
            rms: IgnoredAny,
            num_elements: IgnoredAny,
        }
    }
}

impl Hash {
    /// Parses 64 hex digits. `blake3::Hash::from_hex` takes 0.25 us where this takes 0.05 us (a loop over 20,000
    /// digests,
    /// `--release`), and a comparison takes about 1 us for each record in all.
    pub(crate) fn parse(text: &str) -> Self {
        Self::bytes(text).map_or(Self::NoDigest, Self::Bytes)
    }

    fn bytes(text: &str) -> Option<[u8; 32]> {
        let digits = <&[u8; 64]>::try_from(text.as_bytes()).ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high? << 4 | low?).ok()?;
        }
        Some(bytes)
    }

    /// Whether the two show that the tensors are equal. Only digests do: equal texts of another form show nothing.
    pub(crate) fn proves_equal(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Bytes(one), Self::Bytes(other)) if one == other)
    }

    pub(crate) fn is_digest(&self) -> bool {
        matches!(self, Self::Bytes(_))
    }
}

/// The field `blake3` of a record: a digest of 64 hex digits, or a text that is not one and shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Hash {
    Bytes([u8; 32]),
    NoDigest,
}

#[cfg(test)]
mod tests {
    use super::Hash;

    #[test]
    fn a_digest_is_64_hex_digits_of_either_case() {
        let digits = "0123456789abcdefABCDEF0000000000".repeat(2);
        let Hash::Bytes(bytes) = Hash::parse(&digits) else { panic!("{digits} is a digest") };
        assert_eq!(bytes[..11], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xab, 0xcd, 0xef]);
        for wrong in ["", &digits[1..], &format!("{digits}0"), &digits.replace('9', "g"), &digits.replace('9', "+")] {
            assert_eq!(Hash::parse(wrong), Hash::NoDigest, "{wrong}");
        }
    }
}
