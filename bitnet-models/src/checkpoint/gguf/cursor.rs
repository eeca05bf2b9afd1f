//! Reads the numbers and texts at the head of a GGUF file, never past the end.
//!
//! What a value is, for messages, is passed as `fmt::Arguments`: it is put together only if it is needed, and a key of
//! kilobytes is not copied for each of millions of values.

use std::fmt;

use super::metadata::{Array, Value};
use crate::checkpoint::stored::{DAMAGED, LONGEST_NAME};
use crate::error::{Error, Result, Short};

/// The largest head that is read. Those of vocabularies of 256k tokens have about 20 MB.
pub(super) const LARGEST_HEAD: usize = 128 << 20;

/// A place in the head of a file.
pub(super) struct Cursor<'a> {
    file: &'a str,
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// The beginning of a file; `bytes` are all of its bytes.
    pub(super) fn new(file: &'a str, bytes: &'a [u8]) -> Self {
        Self { file, bytes: &bytes[..bytes.len().min(LARGEST_HEAD)], at: 0 }
    }

    pub(super) fn error(&self, at: usize, reason: &str) -> Error {
        Error::Format { file: self.file.to_owned(), reason: format!("byte {at}: {reason}") }
    }

    /// The next `length` bytes, which hold `what`.
    fn take(&mut self, length: u64, what: fmt::Arguments<'_>) -> Result<&'a [u8]> {
        let left = &self.bytes[self.at..];
        let taken = usize::try_from(length).ok().and_then(|length| left.get(..length));
        let Some(taken) = taken else {
            let end = if self.bytes.len() == LARGEST_HEAD { "the limit for the head" } else { "the end of the file" };
            let reason = format!("expected {what}, {length} bytes; found {end} after {} bytes; {DAMAGED}", left.len());
            return Err(self.error(self.at, &reason));
        };
        self.at += taken.len();
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: fmt::Arguments<'_>) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u32(&mut self, what: fmt::Arguments<'_>) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: fmt::Arguments<'_>) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A number of things that take at least `least` bytes each, so that none can be reserved that the file does not
    /// hold.
    pub(super) fn count(&mut self, what: fmt::Arguments<'_>, least: u64, most: u64) -> Result<usize> {
        let at = self.at;
        let count = self.u64(what)?;
        let left = (self.bytes.len() - self.at) as u64;
        let possible = (left / least).min(most);
        match usize::try_from(count) {
            Ok(number) if count <= possible => Ok(number),
            _ => {
                let reason = format!("expected {what}, at most {possible} here; found {count}; {DAMAGED}");
                Err(self.error(at, &reason))
            }
        }
    }

    /// A key or a name: a text of a limited length.
    pub(super) fn name(&mut self, what: fmt::Arguments<'_>) -> Result<&'a str> {
        let at = self.at;
        let name = self.string(what)?;
        if name.len() > LONGEST_NAME {
            let reason = format!("expected {what} of at most {LONGEST_NAME} bytes, found {}; {DAMAGED}", name.len());
            return Err(self.error(at, &reason));
        }
        Ok(name)
    }

    /// A text: its length as u64, and UTF-8.
    pub(super) fn string(&mut self, what: fmt::Arguments<'_>) -> Result<&'a str> {
        let length = self.u64(format_args!("the length of {what}"))?;
        let at = self.at;
        let bytes = self.take(length, what)?;
        std::str::from_utf8(bytes).map_err(|error| {
            self.error(at + error.valid_up_to(), &format!("expected {what} in UTF-8, found another byte; {DAMAGED}"))
        })
    }

    /// The value of a key: its type as u32, and the value.
    pub(super) fn value(&mut self, key: &str) -> Result<Value> {
        let (at, shown) = (self.at, Short(key));
        let kind = self.u32(format_args!("the type of `{shown}`"))?;
        let what = format_args!("the value of `{shown}`");
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(what)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(what)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(what)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(what)?)),
            4 => Value::U32(self.u32(what)?),
            5 => Value::I32(i32::from_le_bytes(self.array(what)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(what)?)),
            7 => Value::Bool(self.bool(what)?),
            8 => Value::String(self.string(what)?.to_owned()),
            9 => Value::Array(self.values(shown)?),
            10 => Value::U64(self.u64(what)?),
            11 => Value::I64(i64::from_le_bytes(self.array(what)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(what)?)),
            other => {
                return Err(self.error(at, &format!("`{shown}` has the type {other}; expected 0 to 12; {DAMAGED}")));
            }
        })
    }

    /// The values of an array: their type as u32, their number as u64, and one after the other.
    fn values(&mut self, key: Short<'_>) -> Result<Array> {
        let at = self.at;
        let kind = self.u32(format_args!("the type of the values of `{key}`"))?;
        let what = format_args!("the number of values of `{key}`");
        let mut fixed = |size: u64| {
            let count = self.count(what, size, u64::MAX)? as u64;
            self.take(count * size, format_args!("the values of `{key}`"))
        };
        Ok(match kind {
            0 => Array::U8(fixed(1)?.to_vec()),
            1 => Array::I8(fixed(1)?.iter().map(|byte| byte.cast_signed()).collect()),
            2 => Array::U16(numbers(fixed(2)?, u16::from_le_bytes)),
            3 => Array::I16(numbers(fixed(2)?, i16::from_le_bytes)),
            4 => Array::U32(numbers(fixed(4)?, u32::from_le_bytes)),
            5 => Array::I32(numbers(fixed(4)?, i32::from_le_bytes)),
            6 => Array::F32(numbers(fixed(4)?, f32::from_le_bytes)),
            7 => {
                let count = self.count(what, 1, u64::MAX)?;
                Array::Bool((0..count).map(|_| self.bool(format_args!("a value of `{key}`"))).collect::<Result<_>>()?)
            }
            8 => {
                // A text takes at least the eight bytes of its length.
                let count = self.count(what, 8, u64::MAX)?;
                let text = |index| Ok(self.string(format_args!("text {index} of `{key}`"))?.to_owned());
                Array::String((0..count).map(text).collect::<Result<_>>()?)
            }
            10 => Array::U64(numbers(fixed(8)?, u64::from_le_bytes)),
            11 => Array::I64(numbers(fixed(8)?, i64::from_le_bytes)),
            12 => Array::F64(numbers(fixed(8)?, f64::from_le_bytes)),
            other => {
                let reason =
                    format!("the values of the array `{key}` have the type {other}; expected 0 to 8 or 10 to 12");
                return Err(self.error(at, &format!("{reason} (arrays of arrays are not read); {DAMAGED}")));
            }
        })
    }

    fn bool(&mut self, what: fmt::Arguments<'_>) -> Result<bool> {
        let at = self.at;
        match self.array(what)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.error(at, &format!("expected {what}, 0 or 1; found {other}; {DAMAGED}"))),
        }
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|bytes| number(*bytes)).collect()
}
