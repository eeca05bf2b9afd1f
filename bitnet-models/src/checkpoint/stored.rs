//! A tensor as it lies in a file, whatever the format.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;

/// The types that a checkpoint's tensors are stored in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoredType {
    F32,
    F16,
    Bf16,
    /// Bytes: the packed ternary weights of Hugging Face checkpoints.
    U8,
    Q8_0,
    I2S,
    Tq1_0,
    Tq2_0,
    /// A type that no tensor of a BitNet can have here, by its name.
    Other(String),
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::U8 => "U8",
            Self::Q8_0 => "Q8_0",
            Self::I2S => "I2_S",
            Self::Tq1_0 => "TQ1_0",
            Self::Tq2_0 => "TQ2_0",
            Self::Other(name) => name,
        })
    }
}

/// A tensor in a file. Its data lies inside the file, or the tensor would have been refused.
#[derive(Debug, Clone)]
pub(crate) struct StoredTensor {
    /// The file, for messages.
    pub(crate) file: Arc<str>,
    /// The name in the file.
    pub(crate) name: String,
    pub(crate) kind: StoredType,
    /// Row-major: the last dimension is the one whose values are neighbours.
    pub(crate) shape: Vec<usize>,
    /// Where the data begins, in bytes from the beginning of the file.
    pub(crate) offset: u64,
    /// The number of bytes; `None` for a type whose size is not known here.
    pub(crate) length: Option<u64>,
    /// The data; empty if it is not whole or its size is not known.
    pub(crate) data: Bytes,
}

impl StoredTensor {
    /// Type and shape, as in `F32 [256, 64]`.
    pub(crate) fn describe(&self) -> String {
        format!("{} {:?}", self.kind, self.shape)
    }

    pub(crate) fn error(&self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Tensor {
            file: self.file.to_string(),
            tensor: self.name.clone(),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// An error about where the data lies.
    fn misplaced(&self, expected: &str) -> Error {
        let end = self.offset.saturating_add(self.length.unwrap_or(0));
        self.error(expected, format!("bytes {} to {end}; {DAMAGED}", self.offset))
    }
}

/// What to do about a file that contradicts itself.
pub(super) const DAMAGED: &str = "the file is damaged: download it or convert it again";

/// Finds tensors whose data begins before the data of another one ends, in the order of the file.
pub(super) fn overlaps(tensors: &[StoredTensor]) -> Vec<Error> {
    let mut order: Vec<&StoredTensor> = tensors.iter().filter(|tensor| tensor.length.is_some_and(|n| n > 0)).collect();
    order.sort_by_key(|tensor| tensor.offset);
    let mut problems = Vec::new();
    let mut furthest: Option<(&StoredTensor, u64)> = None;
    for tensor in order {
        let end = tensor.offset.saturating_add(tensor.length.unwrap_or(0));
        match furthest {
            Some((other, other_end)) if tensor.offset < other_end => {
                let expected = format!("data after that of `{}`, which ends at byte {other_end}", other.name);
                problems.push(tensor.misplaced(&expected));
                if end > other_end {
                    furthest = Some((tensor, end));
                }
            }
            _ => furthest = Some((tensor, end)),
        }
    }
    problems
}

/// Gives a tensor its data in the file, or an error if a part of it lies outside.
pub(super) fn place(mut tensor: StoredTensor, file: &Bytes) -> (StoredTensor, Option<Error>) {
    let Some(length) = tensor.length else { return (tensor, None) };
    let range = (usize::try_from(tensor.offset).ok())
        .zip(usize::try_from(length).ok())
        .and_then(|(start, length)| Some(start..start.checked_add(length)?))
        .filter(|range| range.end <= file.len());
    if let Some(range) = range {
        tensor.data = file.slice(range);
        (tensor, None)
    } else {
        let error = tensor.misplaced(&format!("data inside the file, which has {} bytes", file.len()));
        (tensor, Some(error))
    }
}

/// What could be read of one file. It is used only if there are no problems; `bitnet inspect` shows it all.
#[derive(Debug)]
pub(crate) struct Contents {
    /// The file, for messages.
    pub(crate) file: Arc<str>,
    /// The whole file.
    pub(crate) bytes: Bytes,
    pub(crate) tensors: Vec<StoredTensor>,
    pub(crate) problems: Vec<Error>,
}

impl Contents {
    /// The contents if nothing is wrong with them, else the first problem.
    pub(crate) fn sound(mut self) -> Result<Self, Error> {
        if self.problems.is_empty() { Ok(self) } else { Err(self.problems.swap_remove(0)) }
    }
}
