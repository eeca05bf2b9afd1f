//! A tensor as it lies in a file, whatever the format.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Short};

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
        format!("{} {:?}", Short(&self.kind.to_string()), self.shape)
    }

    pub(crate) fn error(&self, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Tensor {
            file: self.file.to_string(),
            tensor: Short(&self.name).to_string(),
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

/// The longest name of a tensor and the longest key, in bytes: the limit of the GGUF specification, here for all formats.
pub(super) const LONGEST_NAME: usize = 65535;

/// Finds tensors whose data begins before the data of another one ends, in the order of the file.
pub(super) fn overlaps(tensors: &[StoredTensor], problems: &mut Problems) {
    let mut order: Vec<&StoredTensor> = tensors.iter().filter(|tensor| tensor.length.is_some_and(|n| n > 0)).collect();
    order.sort_by_key(|tensor| tensor.offset);
    let mut furthest: Option<(&StoredTensor, u64)> = None;
    for tensor in order {
        let end = tensor.offset.saturating_add(tensor.length.unwrap_or(0));
        match furthest {
            Some((other, other_end)) if tensor.offset < other_end => {
                let expected = format!("data after that of `{}`, which ends at byte {other_end}", Short(&other.name));
                problems.push(tensor.misplaced(&expected));
                if end > other_end {
                    furthest = Some((tensor, end));
                }
            }
            _ => furthest = Some((tensor, end)),
        }
    }
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
    pub(crate) problems: Problems,
}

impl Contents {
    /// The contents if nothing is wrong with them, else the first problem.
    pub(crate) fn sound(mut self) -> Result<Self, Error> {
        if self.problems.is_empty() { Ok(self) } else { Err(self.problems.kept.swap_remove(0)) }
    }
}

/// The most problems that are kept. A damaged file can have as many as it has tensors, and nobody reads them all.
const MOST_PROBLEMS: usize = 100;

/// What is wrong, in the order in which it was found: the first problems, and how many more there are.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    kept: Vec<Error>,
    more: usize,
}

impl Problems {
    pub(crate) fn push(&mut self, problem: Error) {
        if self.kept.len() < MOST_PROBLEMS {
            self.kept.push(problem);
        } else {
            self.more += 1;
        }
    }

    /// Adds those of a part, such as one file of several.
    pub(crate) fn append(&mut self, part: Self) {
        self.extend(part.kept);
        self.more += part.more;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Those that are kept.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Error> {
        self.kept.iter()
    }

    /// How many there are besides.
    pub(crate) fn more(&self) -> usize {
        self.more
    }
}

impl Extend<Error> for Problems {
    fn extend<T: IntoIterator<Item = Error>>(&mut self, problems: T) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}
