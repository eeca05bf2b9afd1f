//! Captured values: one safetensors file a record, in the tensor's own type.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Alike, create_new};
use crate::error::Error;
use crate::digest::{TensorView, visit_bytes};
use crate::failing::guarded;
use crate::record::TraceRecord;

/// Directory of the files, inside the trace directory.
pub(crate) const DIRECTORY: &str = "values";

/// Streams a tensor to `values/{file stem}.safetensors`, block by block, and returns the path
/// relative to the trace directory. A file that could not be written whole is taken away again.
pub(crate) fn write(directory: &Path, record: &TraceRecord, view: &TensorView<'_>, alike: &Alike) -> Result<String, Error> {
    let values = directory.join(DIRECTORY);
    make(&values)?;
    let (file, path) = create_new(&values, &record.name, "safetensors", alike)?;
    guarded("writing the values", || stream(file, &path, record, view)).inspect_err(|_| {
        let _ = fs::remove_file(&path);
    })?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Ok(format!("{DIRECTORY}/{name}"))
}

/// Makes the directory of the values. A link to one leads to somebody else's files.
fn make(values: &Path) -> Result<(), Error> {
    let is_there = || values.symlink_metadata().map(|there| there.is_dir());
    let made = match is_there() {
        Ok(is_directory) => Ok(is_directory),
        // Not with its parents: a trace directory that was deleted stays so.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match fs::create_dir(values) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_there(),
            made => made.map(|()| true),
        },
        Err(error) => Err(error),
    };
    if made.map_err(Error::io("create", values))? {
        return Ok(());
    }
    let reason = "it is there and not a directory of this run; move it away";
    Err(Error::io("create", values)(io::Error::new(io::ErrorKind::NotADirectory, reason)))
}

fn stream(mut file: File, path: &PathBuf, record: &TraceRecord, view: &TensorView<'_>) -> Result<(), Error> {
    let failed = || Error::io("write", path);
    file.write_all(&header(&record.name, view)).map_err(failed())?;
    visit_bytes(view, &mut |bytes| file.write_all(bytes)).map_err(failed())
}

/// The format's header (its README, "Format"): the length of a JSON object, then the object, filled
/// up with blanks so that the data begins at a multiple of 8.
fn header(name: &str, view: &TensorView<'_>) -> Vec<u8> {
    // A key of the format's own.
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
