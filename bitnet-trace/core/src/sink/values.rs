//! Writes captured values: one safetensors file per record, in the tensor's own type.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{StemCounts, create_new};
use crate::digest::{TensorView, visit_bytes};
use crate::error::Error;
use crate::failing::guarded;
use crate::record::TraceRecord;

/// Name of the directory of the files, inside the trace directory.
pub(crate) const DIRECTORY: &str = "values";

/// Writes a tensor to `values/{file stem}.safetensors`, block by block, and returns the path relative to the trace
/// directory. If the file cannot be written completely, it is removed.
pub(crate) fn write(
    directory: &Path,
    record: &TraceRecord,
    view: &TensorView<'_>,
    counts: &StemCounts,
) -> Result<String, Error> {
    let values = directory.join(DIRECTORY);
    make(&values)?;
    let (file, path) = create_new(&values, &record.name, "safetensors", counts)?;
    guarded("writing the values", || stream(file, &path, record, view)).inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{DIRECTORY}/{name}"))
}

/// Creates the directory of the values if it does not exist. A link to a directory is refused, because it leads to
/// files of another program.
fn make(values: &Path) -> Result<(), Error> {
    let is_there = || values.symlink_metadata().map(|there| there.is_dir());
    let made = match is_there() {
        Ok(is_directory) => Ok(is_directory),
        // Not `create_dir_all`: a trace directory that was deleted must not come back.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(values) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_there(),
            made => made.map(|()| true),
        },
        Err(error) => Err(error),
    };
    if made.map_err(Error::io("create", values))? {
        return Ok(());
    }
    let reason = "it exists but is not a directory, or it is a link; move it away";
    Err(Error::io("create", values)(io::Error::new(io::ErrorKind::NotADirectory, reason)))
}

fn stream(mut file: File, path: &PathBuf, record: &TraceRecord, view: &TensorView<'_>) -> Result<(), Error> {
    let failed = || Error::io("write", path);
    file.write_all(&header(&record.name, view)).map_err(failed())?;
    visit_bytes(view, &mut |bytes| file.write_all(bytes)).map_err(failed())
}

/// The header of a safetensors file (README of safetensors, section "Format"): the length of a JSON object as
/// little-endian u64, then the object, padded with blanks so that the data begins at a multiple of 8.
fn header(name: &str, view: &TensorView<'_>) -> Vec<u8> {
    // The format reserves this key.
    let name = if name == "__metadata__" { "values" } else { name };
    let size = view.count() * view.dtype().size();
    let json = serde_json::json!({
        name: { "dtype": view.dtype().safetensors_name(), "shape": view.shape(), "data_offsets": [0, size] },
    });
    let mut json = json.to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    header
}
