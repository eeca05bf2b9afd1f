//! Format `files`: one indented JSON file per record.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use super::{StemCounts, create_new};
use crate::error::Error;
use crate::record::TraceRecord;

/// Writes `{file stem}.trace` and returns the file's name. If the file cannot be written completely, it is
/// removed.
pub(crate) fn write(directory: &Path, record: &TraceRecord, counts: &StemCounts) -> Result<Box<str>, Error> {
    let (mut file, path) = create_new(directory, &record.name, "trace", counts)?;
    let json = serde_json::to_vec_pretty(record).map_err(io::Error::from);
    json.and_then(|json| file.write_all(&json)).map_err(|error| {
        let _ = fs::remove_file(&path);
        Error::io("write", &path)(error)
    })?;
    Ok(path.file_name().unwrap_or_default().to_string_lossy().into())
}
