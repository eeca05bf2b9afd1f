//! A checkpoint in several safetensors files, and the index that says which tensor is where.
//!
//! Source: `save_pretrained` of transformers: `model.safetensors.index.json` with the object `weight_map`.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::safetensors;
use super::stored::{Contents, DAMAGED};
use crate::bytes::{map, read};
use crate::error::{Error, Result, Short};

/// The name of the index.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The largest index; that of a model of a thousand layers has about 2 MB.
const LARGEST_INDEX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Raw {
    /// File names by tensor names.
    weight_map: BTreeMap<String, String>,
}

/// An index: the tensors of every file, both in the order of their names.
pub(crate) struct Index {
    file: PathBuf,
    shards: BTreeMap<String, Vec<String>>,
}

impl Index {
    /// Reads the index of a directory.
    ///
    /// # Errors
    ///
    /// If it is missing, malformed or empty, or a file name leads out of the directory.
    pub(crate) fn read(directory: &Path) -> Result<Self> {
        let mut index = Self { file: directory.join(INDEX), shards: BTreeMap::new() };
        let raw: Raw = serde_json::from_slice(&read(&index.file, LARGEST_INDEX)?)
            .map_err(|error| index.error(format!("not an index of safetensors files: {error}")))?;
        for (tensor, shard) in raw.weight_map {
            if shard.is_empty() || shard == "." || shard == ".." || shard.contains(['/', '\\', ':', '\0']) {
                return Err(index.error(format!(
                    "`weight_map` places `{}` in {shard:?}; expected the name of a file beside the index, without a path",
                    Short(&tensor)
                )));
            }
            index.shards.entry(shard).or_default().push(tensor);
        }
        if index.shards.is_empty() {
            return Err(index.error("`weight_map` is empty; expected at least one tensor".to_owned()));
        }
        Ok(index)
    }

    /// Reads as much as possible of each file. Tensors that the index does not place there are left out; one that the file
    /// does not have is among the problems.
    pub(crate) fn scan(&self) -> impl Iterator<Item = Result<Contents>> {
        self.shards.iter().map(|(shard, tensors)| {
            let path = self.file.with_file_name(shard);
            let bytes = map(&path).map_err(|error| match error {
                Error::Read { path, source } if source.kind() == io::ErrorKind::NotFound => self.error(format!(
                    "the index names {}, which does not exist; download all files of the checkpoint",
                    path.display()
                )),
                other => other,
            })?;
            let mut contents = safetensors::scan(&path.display().to_string(), &bytes);
            contents.tensors.retain(|tensor| tensors.binary_search(&tensor.name).is_ok());
            if contents.problems.is_empty() && contents.tensors.len() < tensors.len() {
                let there: HashSet<&str> = contents.tensors.iter().map(|tensor| &*tensor.name).collect();
                let missing = tensors.iter().find(|name| !there.contains(name.as_str())).map_or("", String::as_str);
                contents.problems.push(self.error(format!(
                    "`weight_map` places `{}` in {shard}, which does not have it; {DAMAGED}",
                    Short(missing)
                )));
            }
            Ok(contents)
        })
    }

    fn error(&self, reason: String) -> Error {
        Error::Format { file: self.file.display().to_string(), reason }
    }
}

/// Opens the files of an index, in the order of their names.
///
/// # Errors
///
/// If the index or a file is missing or malformed, or a tensor is not in the file that the index names.
pub(super) fn open(directory: &Path) -> Result<Vec<Contents>> {
    Index::read(directory)?.scan().map(|contents| contents?.sound()).collect()
}
