//! Advisory locks: of a run on its directory, and of whoever looks for a directory on its turn.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;

/// Held while a process looks at a directory and prepares it; removed after.
const TURN: &str = ".claim.lock";
/// Takes its place on file systems without locks: whoever makes it has the turn.
const TURN_BY_NAME: &str = ".claim";

/// How long a process waits for its turn: moving an older run of a million files takes a while.
const PATIENCE: Duration = Duration::from_secs(120);
/// The same without locks, where a process that was killed in its turn leaves the file behind.
const PATIENCE_BY_NAME: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// The lock of a run, held until dropped. On a file system without locks only the open file.
#[derive(Debug)]
pub(super) struct Lock(File);

/// What a lock says without being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Taken,
    Free,
    Unsupported,
}

impl Lock {
    /// `None` if another process holds it.
    pub(super) fn take(path: &Path) -> Result<Option<Self>, Error> {
        let file = open(path)?;
        Ok(match probe(&file) {
            Probe::Taken => None,
            Probe::Free | Probe::Unsupported => Some(Self(file)),
        })
    }

    /// Asks without making the file. The caller has the turn, so nobody is kept from the lock by it.
    pub(super) fn probe(path: &Path) -> Result<Probe, Error> {
        match File::options().write(true).open(path) {
            Ok(file) => Ok(probe(&file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Probe::Free),
            // Another user's.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(Probe::Unsupported),
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    /// Whether this is the file at the path.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        is_same_file(&self.0, path)
    }
}

fn open(path: &Path) -> Result<File, Error> {
    File::options().create(true).truncate(false).write(true).open(path).map_err(Error::io("create", path))
}

/// Any failure but "taken" means that there are no locks: file systems give many reasons for that
/// (NFS without its lock service says that no locks are available).
fn probe(file: &File) -> Probe {
    match file.try_lock() {
        Ok(()) => Probe::Free,
        Err(TryLockError::WouldBlock) => Probe::Taken,
        Err(TryLockError::Error(_)) => Probe::Unsupported,
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

/// The right to look at a directory and to prepare it, one process at a time, until dropped.
pub(super) struct Turn {
    path: PathBuf,
    _lock: File,
}

impl Turn {
    /// Waits for the turn. `None` if it does not come.
    pub(super) fn take(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(TURN);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let file = open(&path)?;
            match probe(&file) {
                Probe::Free if is_same_file(&file, &path) => return Ok(Some(Self { path, _lock: file })),
                // The process before removed it.
                Probe::Free => {}
                Probe::Taken if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Probe::Taken => return Ok(None),
                Probe::Unsupported => {
                    let _ = fs::remove_file(&path);
                    return Self::by_name(directory).map(Some);
                }
            }
        }
    }

    fn by_name(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(TURN_BY_NAME);
        let deadline = Instant::now() + PATIENCE_BY_NAME;
        loop {
            match File::create_new(&path) {
                Ok(file) => return Ok(Self { path, _lock: file }),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", &path)(error));
                }
                Err(_) if Instant::now() < deadline => std::thread::sleep(PAUSE),
                // Left behind by a process that was killed.
                Err(_) => {
                    let _ = fs::remove_file(&path);
                }
            }
        }
    }
}

impl Drop for Turn {
    /// Removes the file before the lock ends: whoever waits for it sees that it is gone.
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
