//! Names inside a trace directory that writer and reader share.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The records of format `jsonl`.
pub(crate) const JSONL: &str = "trace.jsonl";

/// What a run was.
pub(crate) const MANIFEST: &str = "run.json";

/// Version of the record and directory format.
pub(crate) const SCHEMA: &str = "bitnet-trace/1";

/// `p123`, where a second process records.
pub(crate) fn is_process_directory(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let digits = name.and_then(|name| name.strip_prefix('p'));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())) && path.is_dir()
}

/// The paths inside, in the order of their names.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(Error::io("read", directory))?;
    paths.sort();
    Ok(paths)
}
