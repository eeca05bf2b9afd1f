//! safetensors: the length of the head as u64, the head as JSON, the tensors.
//!
//! Source: the README of huggingface/safetensors, section "Format". The head is read here and not by the crate of that
//! name because the crate keeps the last of two tensors with one name and stops at the first problem, and
//! `bitnet inspect` shows what it can of a damaged file.

use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::stored::{Contents, DAMAGED, LONGEST_NAME, Problems, StoredTensor, StoredType, overlaps, place};
use crate::error::{Error, Result, Short};

/// The number of bytes before the head: they hold its length as a u64.
const PREFIX: usize = 8;
/// The largest head (`MAX_HEADER_SIZE` of the crate).
const LARGEST_HEAD: usize = 100_000_000;
/// More tensors than any model has in one file.
const MOST_TENSORS: usize = 1 << 16;
/// The name of the head's entry that is no tensor.
const METADATA: &str = "__metadata__";

/// Reads as much as possible of a file; what is wrong with it is among the problems.
pub(crate) fn scan(file: &str, bytes: &Bytes) -> Contents {
    let mut contents =
        Contents { file: file.into(), bytes: bytes.clone(), tensors: Vec::new(), problems: Problems::default() };
    match head(bytes) {
        Err(reason) => {
            let reason = format!("not a whole safetensors file ({} bytes): {reason}; {DAMAGED}", bytes.len());
            contents.problems.push(Error::Format { file: file.to_owned(), reason });
        }
        Ok((data, entries)) => add(&mut contents, data, entries),
    }
    contents
}

/// Where the data begins, and the entries of the head.
fn head(bytes: &[u8]) -> std::result::Result<(usize, Vec<(String, Info)>), String> {
    let Some((length, rest)) = bytes.split_first_chunk::<PREFIX>() else {
        return Err(format!("expected {PREFIX} bytes with the length of the head"));
    };
    let length = u64::from_le_bytes(*length);
    let head = usize::try_from(length).ok().filter(|length| *length <= LARGEST_HEAD);
    let Some(head) = head.and_then(|length| rest.get(..length)) else {
        return Err(format!(
            "the head has {length} bytes according to the first {PREFIX}; expected at most {}",
            rest.len().min(LARGEST_HEAD)
        ));
    };
    let Entries(entries) = serde_json::from_slice(head).map_err(|error| format!("the head: {error}"))?;
    Ok((PREFIX + head.len(), entries))
}

fn add(contents: &mut Contents, data: usize, entries: Vec<(String, Info)>) {
    let mut seen = HashSet::new();
    let mut end = data as u64;
    for (name, info) in entries {
        let file = contents.file.clone();
        if !seen.insert(name.clone()) {
            let reason = format!("the tensor `{}` a second time; {DAMAGED}", Short(&name));
            contents.problems.push(Error::Format { file: file.to_string(), reason });
            continue;
        }
        let (start, stop) = info.data_offsets;
        let (kind, size) = stored_type(&info.dtype);
        let tensor = StoredTensor {
            file,
            name,
            kind,
            shape: info.shape,
            offset: start.saturating_add(data as u64),
            length: stop.checked_sub(start),
            data: Bytes::new(),
        };
        let elements = tensor.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size as u64));
        let bits = elements.zip(size).and_then(|(elements, size)| elements.checked_mul(size));
        let expected = bits.map(|bits| bits / 8);
        // Whether the size of a type is known or not, its end must be after its beginning.
        if tensor.length.is_none() || (size.is_some() && tensor.length != expected) {
            let expected =
                expected.map_or_else(|| "a size that a file can have".to_owned(), |size| format!("{size} bytes"));
            let found = format!("{}, from byte {start} to {stop} of the data; {DAMAGED}", tensor.describe());
            contents.problems.push(tensor.error(expected, found));
        }
        let (tensor, problem) = place(tensor, &contents.bytes);
        contents.problems.extend(problem);
        end = end.max(tensor.offset.saturating_add(tensor.length.unwrap_or(0)));
        contents.tensors.push(tensor);
    }
    overlaps(&contents.tensors, &mut contents.problems);
    // Holes are not allowed by the format, and bytes after the last tensor are the sign of a lost one.
    let used: u64 = contents.tensors.iter().filter_map(|tensor| tensor.length).fold(data as u64, u64::saturating_add);
    let whole = contents.bytes.len() as u64;
    if contents.problems.is_empty() && (used != whole || end != whole) {
        let reason = format!(
            "not a whole safetensors file: {whole} bytes, of which head and tensors describe {used}; {DAMAGED}"
        );
        contents.problems.push(Error::Format { file: contents.file.to_string(), reason });
    }
}

/// Whether a file begins as one of this format: the length of a head that the file has room for, and a `{`.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    let Some((length, rest)) = bytes.split_first_chunk::<PREFIX>() else { return false };
    let length = u64::from_le_bytes(*length);
    length <= LARGEST_HEAD as u64 && length <= rest.len() as u64 && rest.first() == Some(&b'{')
}

/// The type of a name, and the bits of a value; `None` for a name that is not known.
fn stored_type(name: &str) -> (StoredType, Option<u64>) {
    match name {
        "F32" => (StoredType::F32, Some(32)),
        "F16" => (StoredType::F16, Some(16)),
        "BF16" => (StoredType::Bf16, Some(16)),
        "U8" => (StoredType::U8, Some(8)),
        "BOOL" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" => (StoredType::Other(name.to_owned()), Some(8)),
        "I16" | "U16" => (StoredType::Other(name.to_owned()), Some(16)),
        "I32" | "U32" => (StoredType::Other(name.to_owned()), Some(32)),
        "I64" | "U64" | "F64" | "C64" => (StoredType::Other(name.to_owned()), Some(64)),
        _ => (StoredType::Other(name.to_owned()), None),
    }
}

/// A tensor in the head.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    /// From where the data begins.
    data_offsets: (u64, u64),
}

/// All tensors of the head, also those with one name.
struct Entries(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name.len() > LONGEST_NAME {
                        let reason = format_args!("a name of {} bytes; expected at most {LONGEST_NAME}", name.len());
                        return Err(serde::de::Error::custom(reason));
                    }
                    if name == METADATA {
                        map.next_value::<serde::de::IgnoredAny>()?;
                    } else if entries.len() < MOST_TENSORS {
                        entries.push((name, map.next_value()?));
                    } else {
                        return Err(serde::de::Error::custom(format_args!("more than {MOST_TENSORS} tensors")));
                    }
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The tensors of a file that is whole.
///
/// # Errors
///
/// The first problem of the file.
pub(super) fn open(file: &str, bytes: &Bytes) -> Result<Contents> {
    scan(file, bytes).sound()
}
