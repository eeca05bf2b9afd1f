//! The names in a trace directory that writers and readers share.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The file of the records in format `jsonl`.
pub(crate) const JSONL: &str = "trace.jsonl";

/// The file of the manifest, see [`Manifest`](super::Manifest).
pub(crate) const MANIFEST: &str = "run.json";

/// Version of the format of records and directories.
pub(crate) const SCHEMA: &str = "bitnet-trace/1";

/// The schema of every run that bitnet-trace wrote begins with this.
pub(crate) const OURS: &str = "bitnet-trace/";

/// The name of the file that is renamed to `run.json` once it is complete. It holds the run's id, so that no other run
/// uses the same name.
pub(crate) fn unfinished(run: &str) -> String {
    format!(".run.json.{run}.new")
}

/// Whether the path has the extension of a record, `.trace`.
pub(crate) fn is_record(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "trace")
}

/// Whether this is the directory of a further process: `p123`, or `p123-2` if two processes have the id 123. It may be
/// a link.
pub(crate) fn is_process_directory(path: &Path) -> bool {
    process_number(path).is_some() && path.is_dir()
}

/// Does the same for paths that are moved, removed or written, where a link does not count: it may lead to the
/// files of another program.
pub(crate) fn is_own_process_directory(path: &Path) -> bool {
    process_number(path).is_some() && is_directory(path)
}

/// Whether this is a directory and not a link to one.
pub(crate) fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}

/// The process id and the repeat number in the name of a process's directory.
pub(crate) fn process_number(path: &Path) -> Option<(u64, u64)> {
    let name = path.file_name()?.to_str()?.strip_prefix('p')?;
    let (process, number) = name.split_once('-').unwrap_or((name, "0"));
    Some((digits(process)?, digits(number)?))
}

/// Parses a number that has only digits, no sign.
pub(crate) fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The paths in a directory, sorted by name.
pub(crate) fn entries(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
        .map_err(Error::io("read", directory))?;
    paths.sort();
    Ok(paths)
}
