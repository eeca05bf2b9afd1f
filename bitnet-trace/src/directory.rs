//! Which directory a run writes into: its own, never another process's, never somebody else's.
//!
//! A run holds an exclusive advisory lock on `.lock` as long as its process lives; the system
//! releases it even after `kill -9`, so a run left behind is never taken for a live one.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::losses::warn;
use crate::paths::{JSONL, MANIFEST, entries, is_process_directory};
use crate::sink::values;

const LOCK: &str = ".lock";
/// Where the run before this one is kept.
const PREVIOUS: &str = ".previous";
/// `PREVIOUS` in the making: becomes it by one rename.
const MOVING: &str = ".previous.moving";

/// A directory that this process may write a run into, as long as the claim lives.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) directory: PathBuf,
    /// None on file systems without locks.
    lock: Option<File>,
}

impl Claim {
    /// Whether the directory is still this process's: it may have been deleted, and even made again
    /// by another one.
    pub(crate) fn holds(&self) -> bool {
        match &self.lock {
            Some(lock) => is_same_file(lock, &self.directory.join(LOCK)),
            None => self.directory.join(MANIFEST).exists(),
        }
    }
}

#[cfg(unix)]
fn is_same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let there = identity(fs::metadata(path));
    there.is_some() && there == identity(open.metadata())
}

/// An open file cannot be deleted elsewhere.
#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Takes `requested` (created with its parents if need be) or a directory inside it:
///
/// * an older run of ours is moved into `.previous`,
/// * beside records without `run.json`, `run-<pid>` is taken,
/// * beside a run of a live process, `p<pid>` is taken.
pub(crate) fn claim(requested: &Path) -> Result<Claim, Error> {
    fs::create_dir_all(requested).map_err(Error::io("create", requested))?;
    // In this order: a run writes its manifest before its first record.
    if has_records(requested)? && !is_run(requested) {
        return claim_inside(requested, "run-", "holds records of something else");
    }
    let Some(lock) = lock(requested)? else {
        return claim_inside(requested, "p", "is in use by a running process");
    };
    // A move that was cut short after its last file.
    if is_run(&requested.join(MOVING)) {
        replace_previous(requested)?;
    }
    if is_run(requested) {
        if live_process_inside(requested)? {
            return claim_inside(requested, "p", "is in use by a running process");
        }
        move_to_previous(requested)?;
    }
    Ok(Claim { directory: requested.to_owned(), lock: lock.into_file() })
}

fn claim_inside(directory: &Path, prefix: &str, why: &str) -> Result<Claim, Error> {
    let inside = directory.join(format!("{prefix}{}", std::process::id()));
    warn(format_args!("{} {why}; this process records into {}", directory.display(), inside.display()));
    claim(&inside)
}

/// A lock that was taken, or a file system that has none.
enum Lock {
    Held(File),
    Unsupported,
}

impl Lock {
    fn into_file(self) -> Option<File> {
        match self {
            Self::Held(file) => Some(file),
            Self::Unsupported => None,
        }
    }
}

/// None if another run holds it.
fn lock(directory: &Path) -> Result<Option<Lock>, Error> {
    let path = directory.join(LOCK);
    let file =
        File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock::Held(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Some(Lock::Unsupported)),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

fn is_run(directory: &Path) -> bool {
    directory.join(MANIFEST).exists()
}

fn has_records(directory: &Path) -> Result<bool, Error> {
    let is_record = |path: &PathBuf| {
        path.is_file()
            && (path.extension().is_some_and(|extension| extension == "trace")
                || path.file_name().is_some_and(|name| name == JSONL))
    };
    Ok(entries(directory)?.iter().any(is_record))
}

/// Whether one of the `p<pid>` directories inside belongs to a live process.
fn live_process_inside(directory: &Path) -> Result<bool, Error> {
    for path in entries(directory)? {
        if is_process_directory(&path) && path.join(LOCK).exists() && lock(&path)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Moves the run that lies in `directory` aside. Killed half way, the next call moves the rest: the
/// manifest goes last.
fn move_to_previous(directory: &Path) -> Result<(), Error> {
    let moving = directory.join(MOVING);
    fs::create_dir_all(&moving).map_err(Error::io("create", &moving))?;
    let mut ours = Vec::new();
    for path in entries(directory)? {
        if is_ours(&path)? {
            ours.push(path);
        }
    }
    ours.sort_by_key(|path| path.file_name().is_some_and(|name| name == MANIFEST));
    for path in ours {
        let to = moving.join(path.file_name().unwrap_or_default());
        fs::rename(&path, &to).map_err(Error::io("move", &path))?;
    }
    replace_previous(directory)
}

/// Makes what was moved the previous run. Removes the one before it, but only if it is one.
fn replace_previous(directory: &Path) -> Result<(), Error> {
    let (moving, previous) = (directory.join(MOVING), directory.join(PREVIOUS));
    if previous.exists() && !is_run(&previous) && !entries(&previous)?.is_empty() {
        let no_run = io::Error::other("it is not a run of ours; move it away");
        return Err(Error::io("replace", &previous)(no_run));
    }
    match fs::remove_dir_all(&previous) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &previous)(error)),
        _ => {}
    }
    fs::rename(&moving, &previous).map_err(Error::io("move", &moving))
}

/// What a run writes; anything else in the directory is the user's and stays.
fn is_ours(path: &Path) -> Result<bool, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let has_extension = |path: &Path, wanted| path.is_file() && path.extension().is_some_and(|found| found == wanted);
    Ok(match name {
        MANIFEST | JSONL => path.is_file(),
        values::DIRECTORY if path.is_dir() => entries(path)?.iter().all(|file| has_extension(file, "safetensors")),
        _ if is_process_directory(path) => is_run(path) || path.join(LOCK).exists(),
        _ => has_extension(path, "trace"),
    })
}
