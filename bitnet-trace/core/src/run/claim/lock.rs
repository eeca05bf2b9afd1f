//! Advisory locks: the lock of a run on its directory, and the lock that gives a process its turn to inspect one.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::Error;

/// File whose lock a process holds while it inspects and prepares a directory. It is removed afterwards.
const TURN: &str = ".claim.lock";
/// File that replaces it on file systems without locks: the process that creates it has the turn.
const TURN_BY_NAME: &str = ".claim";

/// How long a process waits for its turn: moving an older run of a million files takes a while.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it waits without locks for a file to change: a process that was killed during its turn leaves the file
/// behind.
const PATIENCE_BY_NAME: Duration = Duration::from_secs(20);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(2);

// Why a process cannot have a directory: the rest of a sentence that begins with the directory's path.
pub(super) const IN_USE: &str = "is in use by a running process";
pub(super) const DENIED: &str = "may be in use: this process has no permission to open the lock file in it";
pub(super) const NO_LOCK: &str = "holds a .lock that is not a regular file";
const UNFINISHED: &str = "is being prepared by another process that did not finish in time";
const NO_TURN: &str = "holds a .claim or .claim.lock that is not of bitnet-trace";

/// The lock of a run, held until it is dropped. On a file system without locks it is only the open file.
#[derive(Debug)]
pub(super) struct Lock(File);

/// The state of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Taken,
    Free,
    Unsupported,
    /// The file cannot be opened.
    Denied,
    /// A directory, a link or a pipe, which no run made.
    NotAFile,
}

impl Lock {
    /// Takes the lock. The inner error is the reason why this process cannot have it.
    pub(super) fn take(path: &Path) -> Result<Result<Self, &'static str>, Error> {
        let file = match open_or_create(path)? {
            Opened::Existing(file) | Opened::Created(file) => file,
            Opened::Denied => return Ok(Err(DENIED)),
            Opened::NotAFile => return Ok(Err(NO_LOCK)),
        };
        Ok(match probe(&file) {
            Probe::Taken => Err(IN_USE),
            _ => Ok(Self(file)),
        })
    }

    /// Looks at the lock without creating the file. The probe takes the lock for a moment; that disturbs nobody,
    /// because the caller has the turn.
    pub(super) fn probe(path: &Path) -> Probe {
        match open(path) {
            Ok(Opened::Existing(file) | Opened::Created(file)) => {
                let found = probe(&file);
                unlock(&file);
                found
            }
            Ok(Opened::NotAFile) => Probe::NotAFile,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Probe::Free,
            Ok(Opened::Denied) | Err(_) => Probe::Denied,
        }
    }

    /// Whether the file at the path is the one that this lock is on.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        is_same_file(&self.0, path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        unlock(&self.0);
    }
}

/// Releases a lock. Closing the file is not enough: a child process has it open too until it executes its program.
fn unlock(file: &File) {
    let _ = file.unlock();
}

/// The result of opening a lock file.
enum Opened {
    Existing(File),
    Created(File),
    Denied,
    NotAFile,
}

/// Opens a lock file if it is a regular file: opening a pipe would block, and a link may lead to a file of another
/// program. A file of another user may be read-only for this process; its lock works all the same.
fn open(path: &Path) -> io::Result<Opened> {
    if !path.symlink_metadata()?.is_file() {
        return Ok(Opened::NotAFile);
    }
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match File::options().write(true).open(path) {
        Err(error) if denied(&error) => match File::open(path) {
            Err(error) if denied(&error) => Ok(Opened::Denied),
            opened => opened.map(Opened::Existing),
        },
        opened => opened.map(Opened::Existing),
    }
}

fn open_or_create(path: &Path) -> Result<Opened, Error> {
    loop {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map_err(Error::io("open", path)),
        }
        match File::create_new(path) {
            // Another process created it in the meantime.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created.map(Opened::Created).map_err(Error::io("create", path)),
        }
    }
}

/// Tries to take a lock. Every failure except "taken" means that the file system has no locks, because file systems
/// report that in many ways (NFS without its lock service reports that no locks are available).
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
    let identity = |metadata: io::Result<Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let there = identity(fs::symlink_metadata(path));
    there.is_some() && there == identity(open.metadata())
}

/// Other systems do not delete a file that is open.
#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Whether a file may be one that gives a turn: those are empty.
fn is_of_turn(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() == 0
}

/// The right to inspect and prepare a directory, which one process at a time has until it drops this value.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    file: File,
}

impl Turn {
    /// Waits for the turn. The inner error is the reason why it did not come.
    pub(super) fn take(directory: &Path) -> Result<Result<Self, &'static str>, Error> {
        let path = directory.join(TURN);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (file, created) = match open_or_create(&path)? {
                Opened::Existing(file) => (file, false),
                Opened::Created(file) => (file, true),
                Opened::Denied => return Ok(Err(DENIED)),
                Opened::NotAFile => return Ok(Err(NO_TURN)),
            };
            match probe(&file) {
                Probe::Taken if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Probe::Taken => return Ok(Err(UNFINISHED)),
                Probe::Unsupported => {
                    // A file that existed may be locked by another process.
                    if created {
                        let _ = fs::remove_file(&path);
                    }
                    return Self::by_name(directory);
                }
                _ if is_same_file(&file, &path) => return Ok(Ok(Self { path, file })),
                // The process that had the turn before removed the file.
                _ => unlock(&file),
            }
        }
    }

    fn by_name(directory: &Path) -> Result<Result<Self, &'static str>, Error> {
        let path = directory.join(TURN_BY_NAME);
        let deadline = Instant::now() + PATIENCE;
        // When this process first saw the current file, and the file's own time.
        let (mut since, mut modified) = (Instant::now(), None);
        loop {
            match File::create_new(&path) {
                Ok(file) => return Ok(Ok(Self { path, file })),
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", &path)(error));
                }
                Err(_) => {}
            }
            let Ok(there) = path.symlink_metadata() else { continue };
            if !is_of_turn(&there) {
                return Ok(Err(NO_TURN));
            }
            let now = there.modified().ok();
            if modified != now {
                (since, modified) = (Instant::now(), now);
            }
            // A process that was killed left the file behind: remove it, then try again.
            if since.elapsed() >= PATIENCE_BY_NAME && fs::remove_file(&path).is_err() || Instant::now() >= deadline {
                return Ok(Err(UNFINISHED));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Turn {
    /// Removes the file before releasing the lock, so that a waiting process sees that it is gone. A file that replaced
    /// it, or that is no longer empty, is not removed.
    fn drop(&mut self) {
        if self.file.metadata().is_ok_and(|file| is_of_turn(&file)) && is_same_file(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        unlock(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::{Lock, Probe, TURN, TURN_BY_NAME, Turn};

    /// The handle that a child process has until it executes its program.
    fn of_child(file: &File) -> File {
        file.try_clone().expect("a second handle")
    }

    #[test]
    fn a_lock_ends_with_its_owner_and_not_with_a_child() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join(".lock");
        let lock = Lock::take(&path).expect("opened").expect("free");
        let _child = of_child(&lock.0);
        assert_eq!(Lock::probe(&path), Probe::Taken);
        drop(lock);
        assert_eq!(Lock::probe(&path), Probe::Free);
        let turn = Turn::take(dir.path()).expect("opened").expect("free");
        let _child = of_child(&turn.file);
        drop(turn);
        drop(Turn::take(dir.path()).expect("opened").expect("free"));
    }

    #[test]
    fn a_turn_removes_its_own_file_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for (name, take) in [(TURN, Turn::take as fn(&_) -> _), (TURN_BY_NAME, Turn::by_name)] {
            let path = dir.path().join(name);
            let turn = take(dir.path()).expect("made").expect("a turn");
            assert!(path.exists());
            drop(turn);
            assert!(!path.exists());
            // Another process replaced the file.
            let turn = take(dir.path()).expect("made").expect("a turn");
            fs::rename(&path, dir.path().join("old")).expect("moved");
            fs::write(&path, "").expect("written");
            drop(turn);
            assert!(cfg!(not(unix)) || path.exists(), "{name}");
            fs::write(&path, "mine").expect("written");
            let turn = take(dir.path()).expect("opened");
            assert_eq!(turn.is_ok(), name == TURN);
            drop(turn);
            assert_eq!(fs::read_to_string(&path).expect("still there"), "mine");
        }
    }

    #[test]
    fn a_directory_in_place_of_the_file_gives_no_turn_and_no_wait() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in [TURN, TURN_BY_NAME] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        assert!(Turn::take(dir.path()).expect("looked at").is_err());
        assert!(Turn::by_name(dir.path()).expect("looked at").is_err());
    }
}
