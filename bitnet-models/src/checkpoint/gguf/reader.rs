//! Reads the head of a GGUF file and checks where its tensors lie.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::Cursor;
use super::metadata::Metadata;
use super::types::{length, stored_type};
use super::{ALIGNMENT, MAGIC};
use crate::checkpoint::stored::{Contents, DAMAGED, Problems, StoredTensor, overlaps, place};
use crate::error::{Error, Result, Short};

/// More keys, or more tensors, than any model has.
const MOST: u64 = 1 << 16;
/// The fewest bytes of a key with its value: the length of the key, a type, a byte.
const LEAST_PAIR: u64 = 8 + 4 + 1;
/// The fewest bytes that describe a tensor: the length of its name, the number of dimensions, type and offset.
const LEAST_TENSOR: u64 = 8 + 4 + 4 + 8;
/// The most dimensions of a tensor (`GGML_MAX_DIMS`).
const MOST_DIMENSIONS: u32 = 4;
/// The key that sets another alignment.
const ALIGNMENT_KEY: &str = "general.alignment";

/// What could be read of a file.
#[derive(Debug)]
pub(crate) struct Scan {
    /// 2 or 3; `None` if not even that could be read.
    pub(crate) version: Option<u32>,
    pub(crate) metadata: Metadata,
    pub(crate) contents: Contents,
}

/// Reads as much as possible of a file; what is wrong with it is among the problems.
pub(crate) fn scan(file: &str, bytes: &Bytes) -> Scan {
    let mut scan = Scan {
        version: None,
        metadata: Metadata::new(file.to_owned()),
        contents: Contents {
            file: file.into(),
            bytes: bytes.clone(),
            tensors: Vec::new(),
            problems: Problems::default(),
        },
    };
    let mut infos = Vec::new();
    match scan.head(&mut infos) {
        // What the data begins at is known only if the whole head is.
        Err(problem) => {
            scan.contents.problems.push(problem);
            let file = scan.contents.file.clone();
            scan.contents.tensors = infos.into_iter().map(|info| info.tensor(&file, 0).0).collect();
        }
        Ok(data) => scan.place(infos, data),
    }
    scan
}

/// A tensor as the head describes it.
struct Info {
    name: String,
    shape: Vec<usize>,
    kind: u32,
    /// From where the data of the tensors begins.
    offset: u64,
    length: Option<u64>,
    problem: Option<String>,
}

impl Info {
    fn tensor(self, file: &Arc<str>, data: u64) -> (StoredTensor, Option<Error>) {
        let tensor = StoredTensor {
            file: file.clone(),
            name: self.name,
            kind: stored_type(self.kind),
            shape: self.shape,
            offset: data.saturating_add(self.offset),
            length: self.length,
            data: Bytes::new(),
        };
        let problem = self.problem.map(|found| tensor.error("a shape that its type can have", found));
        (tensor, problem)
    }
}

impl Scan {
    /// Reads all before the data; returns the alignment and where the data begins.
    fn head(&mut self, infos: &mut Vec<Info>) -> Result<(u64, u64)> {
        let bytes = self.contents.bytes.clone();
        let file = self.contents.file.clone();
        let mut cursor = Cursor::new(&file, &bytes);
        let magic = cursor.u32(format_args!("the magic number \"GGUF\""))?;
        if magic.to_le_bytes() != *MAGIC {
            let found = magic.to_le_bytes().escape_ascii().to_string();
            return Err(
                cursor.error(0, &format!("expected the magic number \"GGUF\", found \"{found}\"; not a GGUF file"))
            );
        }
        let version = cursor.u32(format_args!("the version"))?;
        self.version = Some(version);
        match version {
            2 | 3 => (),
            1 => {
                return Err(
                    cursor.error(4, "version 1; expected 2 or 3: convert the file again with today's llama.cpp")
                );
            }
            swapped if matches!(swapped.swap_bytes(), 1..=3) => {
                return Err(cursor
                    .error(4, "a big-endian file; expected little-endian: convert it with gguf_convert_endian.py"));
            }
            other => return Err(cursor.error(4, &format!("version {other}; expected 2 or 3; {DAMAGED}"))),
        }
        let tensors = cursor.count(format_args!("the number of tensors"), LEAST_TENSOR, MOST)?;
        let pairs = cursor.count(format_args!("the number of metadata keys"), LEAST_PAIR, MOST)?;

        let mut seen = HashSet::new();
        for _ in 0..pairs {
            let at = cursor.at;
            let key = cursor.name(format_args!("a metadata key"))?;
            if !seen.insert(key) {
                return Err(cursor.error(at, &format!("the metadata key `{}` a second time; {DAMAGED}", Short(key))));
            }
            let value = cursor.value(key)?;
            self.metadata.push(key.to_owned(), value);
        }
        let mut seen = HashSet::new();
        for _ in 0..tensors {
            let at = cursor.at;
            let info = info(&mut cursor)?;
            if !seen.insert(info.name.clone()) {
                return Err(cursor.error(at, &format!("the tensor `{}` a second time; {DAMAGED}", Short(&info.name))));
            }
            infos.push(info);
        }

        let alignment = self.metadata.unsigned(ALIGNMENT_KEY)?.unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() {
            return Err(self.metadata.error(ALIGNMENT_KEY, "a power of two", alignment.to_string()));
        }
        let end = cursor.at as u64;
        let Some(data) = end.checked_next_multiple_of(alignment) else {
            return Err(self.metadata.error(
                ALIGNMENT_KEY,
                "a power of two that the file has room for",
                alignment.to_string(),
            ));
        };
        Ok((alignment, data))
    }

    /// Finds the tensors' data and checks that each has its own.
    fn place(&mut self, infos: Vec<Info>, (alignment, data): (u64, u64)) {
        let contents = &mut self.contents;
        for info in infos {
            let aligned = info.offset.is_multiple_of(alignment);
            let overflows = data.checked_add(info.offset).is_none();
            let offset = info.offset;
            let (tensor, problem) = info.tensor(&contents.file, data);
            contents.problems.extend(problem);
            if !aligned || overflows {
                let expected = format!("an offset inside the file and a multiple of {alignment}, the alignment");
                contents.problems.push(tensor.error(expected, format!("{offset}; {DAMAGED}")));
            }
            let (tensor, problem) = place(tensor, &contents.bytes);
            contents.problems.extend(problem);
            contents.tensors.push(tensor);
        }
        overlaps(&contents.tensors, &mut contents.problems);
        match self.metadata.unsigned("split.count") {
            Ok(Some(parts)) if parts > 1 => contents.problems.push(self.metadata.error(
                "split.count",
                "a file in one part: join the parts with `llama-gguf-split --merge FIRST OUT`",
                parts.to_string(),
            )),
            Ok(_) => (),
            Err(problem) => contents.problems.push(problem),
        }
    }
}

/// Reads the description of a tensor: name, dimensions from the fastest to the slowest, type, offset.
fn info(cursor: &mut Cursor<'_>) -> Result<Info> {
    let name = cursor.name(format_args!("the name of a tensor"))?.to_owned();
    let shown = Short(&name);
    let at = cursor.at;
    let dimensions = cursor.u32(format_args!("the number of dimensions of `{shown}`"))?;
    if dimensions > MOST_DIMENSIONS {
        let reason = format!("`{shown}` has {dimensions} dimensions; expected at most {MOST_DIMENSIONS}; {DAMAGED}");
        return Err(cursor.error(at, &reason));
    }
    let mut shape = Vec::new();
    let mut elements = Some(1u64);
    let mut problem = None;
    for _ in 0..dimensions {
        let at = cursor.at;
        let size = cursor.u64(format_args!("a dimension of `{shown}`"))?;
        elements = elements.and_then(|elements| elements.checked_mul(size));
        let Ok(size) = usize::try_from(size) else {
            return Err(cursor.error(at, &format!("`{shown}` has a dimension of {size}; {DAMAGED}")));
        };
        shape.push(size);
    }
    let columns = shape.first().copied().unwrap_or(1) as u64;
    shape.reverse();
    let kind = cursor.u32(format_args!("the type of `{shown}`"))?;
    let offset = cursor.u64(format_args!("the offset of `{shown}`"))?;
    let length = match elements.map(|elements| length(kind, elements, columns)) {
        Some(Ok(length)) => length,
        Some(Err(reason)) => {
            problem = Some(reason);
            None
        }
        None => {
            problem = Some("more values than a file can have".to_owned());
            None
        }
    };
    Ok(Info { name, shape, kind, offset, length, problem })
}
