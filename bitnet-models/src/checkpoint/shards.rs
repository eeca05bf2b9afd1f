//! A checkpoint in several safetensors files, and the index that says which tensor is where.
//!
//! Source: `save_pretrained` of transformers: `model.safetensors.index.json` with the object `weight_map`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::safetensors;
use super::stored::{Contents, DAMAGED};
use crate::bytes::{map, read};
use crate::error::{Error, Result};

/// The name of the index.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// The largest index; that of a model of a thousand layers has about 2 MB.
const LARGEST_INDEX: u64 = 64 << 20;

#[derive(Deserialize)]
struct Index {
    /// File names by tensor names.
    weight_map: BTreeMap<String, String>,
}

/// Opens the files of an index, in the order of their names. Tensors that the index does not place there are left out.
///
/// # Errors
///
/// If the index or a file is missing or malformed, a file name leads out of the directory, or a tensor is not in the
/// file that the index names.
pub(crate) fn open(directory: &Path) -> Result<Vec<Contents>> {
    let index_file = directory.join(INDEX);
    let refuse = |reason: String| Error::Format { file: index_file.display().to_string(), reason };
    let index: Index = serde_json::from_slice(&read(&index_file, LARGEST_INDEX)?)
        .map_err(|error| refuse(format!("not an index of safetensors files: {error}")))?;
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (tensor, shard) in &index.weight_map {
        shards.entry(shard).or_default().push(tensor);
    }
    if shards.is_empty() {
        return Err(refuse("`weight_map` is empty; expected at least one tensor".to_owned()));
    }
    let mut files = Vec::new();
    for (shard, tensors) in shards {
        if shard.is_empty() || shard == "." || shard == ".." || shard.contains(['/', '\\', ':', '\0']) {
            let first = tensors[0];
            return Err(refuse(format!(
                "`weight_map` places `{first}` in {shard:?}; expected the name of a file beside the index, without a path"
            )));
        }
        let path = directory.join(shard);
        let bytes = map(&path).map_err(|error| match error {
            Error::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound => refuse(format!(
                "the index names {}, which does not exist; download all files of the checkpoint",
                path.display()
            )),
            other => other,
        })?;
        let mut contents = safetensors::open(&path.display().to_string(), &bytes)?;
        contents.tensors.retain(|tensor| tensors.binary_search(&tensor.name.as_str()).is_ok());
        if contents.tensors.len() < tensors.len() {
            let missing = tensors.iter().find(|name| contents.tensors.iter().all(|tensor| tensor.name != **name));
            let missing = missing.copied().unwrap_or_default();
            return Err(refuse(format!("`weight_map` places `{missing}` in {shard}, which does not have it; {DAMAGED}")));
        }
        files.push(contents);
    }
    Ok(files)
}
