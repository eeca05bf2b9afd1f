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

/// What the schema of every run of ours begins with.
pub(crate) const OURS: &str = "bitnet-trace/";

/// `.trace` files are records.
pub(crate) fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "trace")
}

/// Whether this is `p123`, where a second process records, or `p123-2`, where a second one of that
/// number does.
pub(crate) fn is_process_directory(path: &Path) -> bool {
    process_number(path).is_some() && path.is_dir()
}

/// The same where something is moved, removed or written: a link leads to what belongs to somebody else.
pub(crate) fn is_own_process_directory(path: &Path) -> bool {
    process_number(path).is_some() && is_directory(path)
}

/// Whether this is a directory, and no link to one.
pub(crate) fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// The numbers in the name of a process's directory.
pub(crate) fn process_number(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_prefix('p')?;
    let (process, number) = name.split_once('-').unwrap_or((name, "0"));
    Some((digits(process)?, digits(number)?))
}

/// A number without a sign.
pub(crate) fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The paths inside, in the order of their names.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(Error::io("read", directory))?;
    paths.sort();
    Ok(paths)
}
