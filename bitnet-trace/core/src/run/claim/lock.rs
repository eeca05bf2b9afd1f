//! Advisory locks: of a run on its directory, and of whoever looks for a directory on its turn.

use std::fs::{self, File, Metadata, TryLockError};
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

// Why a process does not get a directory, after the directory's name.
pub(super) const IN_USE: &str = "is in use by a running process";
pub(super) const DENIED: &str = "may be in use: this process may not open the lock in it";
pub(super) const NO_LOCK: &str = "holds a .lock that is not a regular file";
const UNFINISHED: &str = "is being prepared by another process, which does not finish";
const NO_TURN: &str = "holds a .claim or .claim.lock that is not of a run";

/// The lock of a run, held until dropped. On a file system without locks only the open file.
#[derive(Debug)]
pub(super) struct Lock(File);

/// What a lock says without being taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Probe {
    Taken,
    Free,
    Unsupported,
    /// It cannot be opened.
    Denied,
    /// A directory, a link, a pipe: no run of ours made it.
    NoFile,
}

impl Lock {
    /// The reason, if this process cannot have it.
    pub(super) fn take(path: &Path) -> Result<Result<Self, &'static str>, Error> {
        let file = match open_or_make(path)? {
            Opened::There(file) | Opened::Made(file) => file,
            Opened::Denied => return Ok(Err(DENIED)),
            Opened::NoFile => return Ok(Err(NO_LOCK)),
        };
        Ok(match probe(&file) {
            Probe::Taken => Err(IN_USE),
            _ => Ok(Self(file)),
        })
    }

    /// Asks without making the file. The caller has the turn, so nobody is kept from the lock by it.
    pub(super) fn probe(path: &Path) -> Probe {
        match open(path) {
            Ok(Opened::There(file) | Opened::Made(file)) => {
                let found = probe(&file);
                unlock(&file);
                found
            }
            Ok(Opened::NoFile) => Probe::NoFile,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Probe::Free,
            Ok(Opened::Denied) | Err(_) => Probe::Denied,
        }
    }

    /// Whether this is the file at the path.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        is_same_file(&self.0, path)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        unlock(&self.0);
    }
}

/// Closing is not enough: a child process has the file open, too, until it begins its program.
fn unlock(file: &File) {
    let _ = file.unlock();
}

/// A file that locks are asked of.
enum Opened {
    There(File),
    Made(File),
    Denied,
    NoFile,
}

/// A regular file: a pipe would be waited for, and a link leads to somebody else's. A file that may
/// only be read is another user's, and has a lock all the same.
fn open(path: &Path) -> io::Result<Opened> {
    if !path.symlink_metadata()?.is_file() {
        return Ok(Opened::NoFile);
    }
    let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    match File::options().write(true).open(path) {
        Err(error) if denied(&error) => match File::open(path) {
            Err(error) if denied(&error) => Ok(Opened::Denied),
            opened => opened.map(Opened::There),
        },
        opened => opened.map(Opened::There),
    }
}

fn open_or_make(path: &Path) -> Result<Opened, Error> {
    loop {
        match open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map_err(Error::io("open", path)),
        }
        match File::create_new(path) {
            // Another process was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(Opened::Made).map_err(Error::io("create", path)),
        }
    }
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
    let identity = |metadata: io::Result<Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let there = identity(fs::symlink_metadata(path));
    there.is_some() && there == identity(open.metadata())
}

/// An open file cannot be deleted elsewhere.
#[cfg(not(unix))]
fn is_same_file(_: &File, path: &Path) -> bool {
    path.exists()
}

/// Whether a file is one that gives a turn: these hold nothing.
fn is_of_turn(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.len() == 0
}

/// The right to look at a directory and to prepare it, one process at a time, until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    path: PathBuf,
    file: File,
}

impl Turn {
    /// Waits for the turn. The reason, if it does not come.
    pub(super) fn take(directory: &Path) -> Result<Result<Self, &'static str>, Error> {
        let path = directory.join(TURN);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (file, made) = match open_or_make(&path)? {
                Opened::There(file) => (file, false),
                Opened::Made(file) => (file, true),
                Opened::Denied => return Ok(Err(DENIED)),
                Opened::NoFile => return Ok(Err(NO_TURN)),
            };
            match probe(&file) {
                Probe::Taken if Instant::now() < deadline => std::thread::sleep(PAUSE),
                Probe::Taken => return Ok(Err(UNFINISHED)),
                Probe::Unsupported => {
                    // Another process's may be locked.
                    if made {
                        let _ = fs::remove_file(&path);
                    }
                    return Self::by_name(directory);
                }
                _ if is_same_file(&file, &path) => return Ok(Ok(Self { path, file })),
                // The process before removed it.
                _ => unlock(&file),
            }
        }
    }

    fn by_name(directory: &Path) -> Result<Result<Self, &'static str>, Error> {
        let path = directory.join(TURN_BY_NAME);
        let deadline = Instant::now() + PATIENCE;
        // Since when the same file is there, and when that was made.
        let (mut since, mut made) = (Instant::now(), None);
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
            if made != now {
                (since, made) = (Instant::now(), now);
            }
            // Left behind by a process that was killed.
            if since.elapsed() >= PATIENCE_BY_NAME && fs::remove_file(&path).is_err() || Instant::now() >= deadline {
                return Ok(Err(UNFINISHED));
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Turn {
    /// Removes the file before the lock ends: whoever waits for it sees that it is gone. One that took
    /// its place, or that somebody wrote into, stays.
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

    /// What a child process has between its beginning and that of its program.
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
            // Another process took the turn away.
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
    fn what_is_no_file_gives_no_turn_at_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in [TURN, TURN_BY_NAME] {
            fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        assert!(Turn::take(dir.path()).expect("looked at").is_err());
        assert!(Turn::by_name(dir.path()).expect("looked at").is_err());
    }
}
