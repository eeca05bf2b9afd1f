//! The typed key-value pairs at the head of a GGUF file.

use crate::error::{Error, Result};

/// A value. Integers and floats keep the width that they have in the file.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the names of the specification
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A list of values of one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the names of the specification
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
}

/// The metadata of one file, in the order of the file. A key occurs once.
///
/// A getter returns `None` for a key that is not there. A key that is there with a value of another type is an error
/// that names the file, the key and both types.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    file: String,
    entries: Vec<(String, Value)>,
}

impl Metadata {
    pub(super) fn new(file: String) -> Self {
        Self { file, entries: Vec::new() }
    }

    pub(super) fn push(&mut self, key: String, value: Value) {
        self.entries.push((key, value));
    }

    /// The file that the values are from, for messages.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// All pairs, in the order of the file.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key, whatever its type.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// A text.
    ///
    /// # Errors
    ///
    /// If the value is not a string.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An integer of any width that is not negative, such as a size or a token id.
    ///
    /// # Errors
    ///
    /// If the value is not an integer, or negative.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "an integer of at least 0", |value| match *value {
            Value::U8(number) => Some(number.into()),
            Value::U16(number) => Some(number.into()),
            Value::U32(number) => Some(number.into()),
            Value::U64(number) => Some(number),
            Value::I8(number) => number.try_into().ok(),
            Value::I16(number) => number.try_into().ok(),
            Value::I32(number) => number.try_into().ok(),
            Value::I64(number) => number.try_into().ok(),
            _ => None,
        })
    }

    /// A floating-point number of either width.
    ///
    /// # Errors
    ///
    /// If the value is not a floating-point number.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a floating-point number", |value| match *value {
            Value::F32(number) => Some(number.into()),
            Value::F64(number) => Some(number),
            _ => None,
        })
    }

    /// A truth value.
    ///
    /// # Errors
    ///
    /// If the value is not a truth value.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a bool", |value| match value {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        })
    }

    /// A list of texts, such as the tokens of a vocabulary.
    ///
    /// # Errors
    ///
    /// If the value is not an array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>> {
        self.typed(key, "an array of strings", |value| match value {
            Value::Array(Array::String(texts)) => Some(texts.as_slice()),
            _ => None,
        })
    }

    /// A list of integers of any width, such as the types of tokens.
    ///
    /// # Errors
    ///
    /// If the value is not an array of integers, or one of them is above the range of `i64`.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        fn wide<T: Copy + Into<i64>>(numbers: &[T]) -> Vec<i64> {
            numbers.iter().map(|number| (*number).into()).collect()
        }
        self.typed(key, "an array of integers", |value| match value {
            Value::Array(Array::U8(numbers)) => Some(wide(numbers)),
            Value::Array(Array::I8(numbers)) => Some(wide(numbers)),
            Value::Array(Array::U16(numbers)) => Some(wide(numbers)),
            Value::Array(Array::I16(numbers)) => Some(wide(numbers)),
            Value::Array(Array::U32(numbers)) => Some(wide(numbers)),
            Value::Array(Array::I32(numbers)) => Some(wide(numbers)),
            Value::Array(Array::I64(numbers)) => Some(numbers.clone()),
            Value::Array(Array::U64(numbers)) => numbers.iter().map(|number| (*number).try_into().ok()).collect(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.error(key, expected, value.describe()))
    }

    /// An error about a key of this file.
    pub(crate) fn error(&self, key: &str, expected: &str, found: impl Into<String>) -> Error {
        Error::Metadata {
            file: self.file.clone(),
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.into(),
        }
    }
}

impl Value {
    /// The type, and the value if it is short: `u32 2560`, `array of 128256 strings`.
    #[must_use]
    pub fn describe(&self) -> String {
        /// The longest text that is shown whole, in characters.
        const LONGEST: usize = 60;
        match self {
            Self::U8(number) => format!("u8 {number}"),
            Self::I8(number) => format!("i8 {number}"),
            Self::U16(number) => format!("u16 {number}"),
            Self::I16(number) => format!("i16 {number}"),
            Self::U32(number) => format!("u32 {number}"),
            Self::I32(number) => format!("i32 {number}"),
            Self::U64(number) => format!("u64 {number}"),
            Self::I64(number) => format!("i64 {number}"),
            Self::F32(number) => format!("f32 {number}"),
            Self::F64(number) => format!("f64 {number}"),
            Self::Bool(truth) => format!("bool {truth}"),
            Self::String(text) if text.chars().nth(LONGEST).is_none() => format!("string {text:?}"),
            Self::String(text) => {
                let beginning: String = text.chars().take(LONGEST).collect();
                format!("string of {} bytes, {beginning:?}...", text.len())
            }
            Self::Array(array) => format!("array of {} {}", array.len(), array.element()),
        }
    }
}

impl Array {
    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::I8(values) => values.len(),
            Self::U16(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::U32(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::U64(values) => values.len(),
            Self::I64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::Bool(values) => values.len(),
            Self::String(values) => values.len(),
        }
    }

    /// Whether there is no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The name of the values' type.
    #[must_use]
    pub fn element(&self) -> &'static str {
        match self {
            Self::U8(_) => "u8",
            Self::I8(_) => "i8",
            Self::U16(_) => "u16",
            Self::I16(_) => "i16",
            Self::U32(_) => "u32",
            Self::I32(_) => "i32",
            Self::U64(_) => "u64",
            Self::I64(_) => "i64",
            Self::F32(_) => "f32",
            Self::F64(_) => "f64",
            Self::Bool(_) => "bool",
            Self::String(_) => "strings",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Array, Metadata, Value};

    #[test]
    fn getters_widen_and_name_both_types() {
        let mut metadata = Metadata::new("x.gguf".to_owned());
        metadata.push("size".to_owned(), Value::U16(7));
        metadata.push("minus".to_owned(), Value::I32(-1));
        metadata.push("types".to_owned(), Value::Array(Array::I32(vec![1, -2])));
        metadata.push("huge".to_owned(), Value::Array(Array::U64(vec![u64::MAX])));
        assert_eq!(metadata.unsigned("size").expect("an integer"), Some(7));
        assert_eq!(metadata.unsigned("none").expect("absent"), None);
        assert_eq!(metadata.integers("types").expect("integers"), Some(vec![1, -2]));
        let said = |error: crate::Error| error.to_string();
        assert_eq!(
            metadata.string("size").map_err(said),
            Err("x.gguf: metadata `size`: expected a string, found u16 7".to_owned())
        );
        assert!(metadata.unsigned("minus").is_err() && metadata.integers("huge").is_err());
        assert!(
            metadata.float("size").is_err() && metadata.bool("size").is_err() && metadata.strings("types").is_err()
        );
    }
}
