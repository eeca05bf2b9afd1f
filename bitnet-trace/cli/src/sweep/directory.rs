//! The directory of a sweep.
//!
//! It holds a lock file, whose presence shows that a sweep made the directory and that everything in it may be
//! replaced, the index, and a directory for each scenario.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

const LOCK: &str = "sweep.lock";
pub(crate) const INDEX: &str = "index.html";

/// Names that no scenario can have.
pub(crate) const RESERVED: [&str; 2] = [LOCK, INDEX];

/// The names in the directory of a scenario, besides those of the two sides and their logs.
pub(crate) const RESULT: &str = "result.json";
pub(crate) const REPORT: &str = "report.html";

/// The directory of a sweep, which no other sweep can use at the same time.
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Creates the directory, or comes back to one that a sweep made.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let cannot = |what: &str, error: io::Error| format!("cannot {what} {}: {error}", path.display());
        fs::create_dir_all(path).map_err(|error| cannot("create", error))?;
        let path = path.canonicalize().map_err(|error| cannot("read", error))?;
        let lock = path.join(LOCK);
        let is_empty = fs::read_dir(&path).map_err(|error| cannot("read", error))?.next().is_none();
        if !is_empty && !fs::symlink_metadata(&lock).is_ok_and(|found| found.is_file()) {
            return Err(format!(
                "{} is not the directory of a sweep (it has no {LOCK}) and not empty; choose another one with --output",
                path.display()
            ));
        }
        let file = File::options().create(true).append(true).open(&lock).map_err(|error| cannot("lock", error))?;
        match file.try_lock() {
            // On a file system without locks, the user has to see to it.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Self { path, _lock: file }),
            Err(TryLockError::WouldBlock) => {
                Err(format!("another sweep is running in {}; wait for it, or choose another --output", path.display()))
            }
        }
    }

    /// The directory of a scenario. It may not exist.
    pub(crate) fn of(&self, scenario: &str) -> PathBuf {
        self.path.join(scenario)
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.path.join(INDEX)
    }
}

/// Removes a file or a directory if it is there. A link is removed, not what it leads to.
pub(crate) fn remove(path: &Path) -> Result<(), String> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|error| format!("cannot remove {}: {error}", path.display()))
}

/// Writes a file by a rename: at no time is there half a file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Directory;

    #[test]
    fn a_directory_of_others_and_one_in_use_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let error = |path: &str| Directory::open(&directory.path().join(path)).err().expect("refused");
        fs::create_dir(directory.path().join("theirs")).expect("created");
        fs::write(directory.path().join("theirs/file"), "").expect("written");
        assert!(error("theirs").contains("is not the directory of a sweep"));
        fs::create_dir(directory.path().join("empty")).expect("created");
        for ours in ["new/sweep", "empty"] {
            let first = Directory::open(&directory.path().join(ours)).expect("it is ours");
            assert!(error(ours).contains("another sweep is running"));
            drop(first);
            Directory::open(&directory.path().join(ours)).expect("it is ours again");
        }
    }
}
