//! Writes the head of a GGUF file, version 3.

use super::metadata::{Array, Value};
use super::types::length;
use super::{ALIGNMENT, MAGIC};

/// The version that is written.
const VERSION: u32 = 3;

/// A tensor that will follow the head.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its name in the file.
    pub name: String,
    /// Row-major: the last dimension is the one whose values are neighbours.
    pub shape: Vec<u64>,
    /// The id of its type in ggml.
    pub kind: u32,
}

impl Planned {
    /// The bytes of its data; `None` if the type's size is not known or the rows do not consist of whole blocks.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        let elements = self.shape.iter().try_fold(1u64, |product, size| product.checked_mul(*size))?;
        length(self.kind, elements, self.shape.last().copied().unwrap_or(1)).ok().flatten()
    }
}

/// The bytes after `length` bytes of data, up to the alignment.
#[must_use]
pub fn padding(length: u64) -> u64 {
    length.next_multiple_of(ALIGNMENT) - length
}

/// The head of a file, up to where the data of the first tensor begins. Each tensor's data follows in this order, with
/// [`padding`] after it. `None` if the size of a tensor is not known.
#[must_use]
pub fn head(metadata: &[(String, Value)], tensors: &[Planned]) -> Option<Vec<u8>> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        string(key, &mut bytes);
        self::value(value, &mut bytes);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        string(&tensor.name, &mut bytes);
        bytes.extend(u32::try_from(tensor.shape.len()).ok()?.to_le_bytes());
        bytes.extend(tensor.shape.iter().rev().flat_map(|size| size.to_le_bytes()));
        bytes.extend(tensor.kind.to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        let length = tensor.length()?;
        offset = offset.checked_add(length)?.checked_add(padding(length))?;
    }
    bytes.resize(bytes.len().next_multiple_of(usize::try_from(ALIGNMENT).ok()?), 0);
    Some(bytes)
}

fn string(text: &str, to: &mut Vec<u8>) {
    to.extend((text.len() as u64).to_le_bytes());
    to.extend(text.as_bytes());
}

/// The type of a value and the value.
fn value(value: &Value, to: &mut Vec<u8>) {
    let mut put = |kind: u32, bytes: &[u8]| {
        to.extend(kind.to_le_bytes());
        to.extend(bytes);
    };
    match value {
        Value::U8(number) => put(0, &number.to_le_bytes()),
        Value::I8(number) => put(1, &number.to_le_bytes()),
        Value::U16(number) => put(2, &number.to_le_bytes()),
        Value::I16(number) => put(3, &number.to_le_bytes()),
        Value::U32(number) => put(4, &number.to_le_bytes()),
        Value::I32(number) => put(5, &number.to_le_bytes()),
        Value::F32(number) => put(6, &number.to_le_bytes()),
        Value::Bool(truth) => put(7, &[u8::from(*truth)]),
        Value::String(text) => {
            put(8, &[]);
            string(text, to);
        }
        Value::Array(values) => {
            put(9, &[]);
            array(values, to);
        }
        Value::U64(number) => put(10, &number.to_le_bytes()),
        Value::I64(number) => put(11, &number.to_le_bytes()),
        Value::F64(number) => put(12, &number.to_le_bytes()),
    }
}

/// The type of the values, their number, and the values.
fn array(array: &Array, to: &mut Vec<u8>) {
    fn put<T: Copy, const N: usize>(kind: u32, values: &[T], bytes: impl Fn(T) -> [u8; N], to: &mut Vec<u8>) {
        to.extend(kind.to_le_bytes());
        to.extend((values.len() as u64).to_le_bytes());
        to.extend(values.iter().flat_map(|value| bytes(*value)));
    }
    match array {
        Array::U8(values) => put(0, values, u8::to_le_bytes, to),
        Array::I8(values) => put(1, values, i8::to_le_bytes, to),
        Array::U16(values) => put(2, values, u16::to_le_bytes, to),
        Array::I16(values) => put(3, values, i16::to_le_bytes, to),
        Array::U32(values) => put(4, values, u32::to_le_bytes, to),
        Array::I32(values) => put(5, values, i32::to_le_bytes, to),
        Array::F32(values) => put(6, values, f32::to_le_bytes, to),
        Array::Bool(values) => put(7, values, |truth| [u8::from(truth)], to),
        Array::String(texts) => {
            to.extend(8u32.to_le_bytes());
            to.extend((texts.len() as u64).to_le_bytes());
            for text in texts {
                string(text, to);
            }
        }
        Array::U64(values) => put(10, values, u64::to_le_bytes, to),
        Array::I64(values) => put(11, values, i64::to_le_bytes, to),
        Array::F64(values) => put(12, values, f64::to_le_bytes, to),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Planned, head, padding};
    use crate::checkpoint::gguf::{Array, Value, scan};

    #[test]
    fn what_is_written_is_read() {
        let metadata: Vec<(String, Value)> = [
            ("a", Value::U8(1)),
            ("b", Value::I8(-1)),
            ("c", Value::U16(2)),
            ("d", Value::I16(-2)),
            ("e", Value::U32(3)),
            ("f", Value::I32(-3)),
            ("g", Value::U64(u64::MAX)),
            ("h", Value::I64(i64::MIN)),
            ("i", Value::F32(0.5)),
            ("j", Value::F64(-0.25)),
            ("k", Value::Bool(true)),
            ("l", Value::String("ä".to_owned())),
            ("m", Value::Array(Array::String(vec![String::new(), "x".to_owned()]))),
            ("n", Value::Array(Array::Bool(vec![true, false]))),
            ("o", Value::Array(Array::F32(vec![1.5]))),
            ("p", Value::Array(Array::U8(vec![]))),
            ("q", Value::Array(Array::I64(vec![-7, 7]))),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .to_vec();
        let tensor = |name: &str, shape: &[u64]| Planned { name: name.to_owned(), shape: shape.to_vec(), kind: 0 };
        let tensors = [tensor("one", &[3, 5]), tensor("two", &[7])];
        let mut file = head(&metadata, &tensors).expect("known sizes");
        for tensor in &tensors {
            let length = tensor.length().expect("known");
            file.resize(file.len() + usize::try_from(length + padding(length)).expect("small"), 1);
        }
        let scan = scan("x.gguf", &Bytes::from(file));
        assert!(scan.contents.problems.is_empty(), "{:?}", scan.contents.problems);
        let read: Vec<(String, Value)> =
            scan.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        assert_eq!(read, metadata);
        let shapes: Vec<_> = scan.contents.tensors.iter().map(|tensor| (&*tensor.name, &*tensor.shape)).collect();
        assert_eq!(shapes, [("one", &[3, 5][..]), ("two", &[7][..])]);
        assert_eq!(scan.contents.tensors[1].data.len(), 28);
    }
}
