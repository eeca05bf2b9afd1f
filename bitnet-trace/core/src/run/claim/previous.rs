//! Moves an older run into `.previous` and removes the run that was there: file by file, and only files of these runs.
//!
//! If the process is killed at any moment, the next one can continue: the `run.json` of a run is moved after all its
//! other files, and removed after them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{LOCK, is_ours, owned};
use crate::error::Error;
use crate::record::layout::{MANIFEST, entries, is_directory, is_own_process_directory};

/// The directory that keeps the run before the current one.
const PREVIOUS: &str = ".previous";
/// The directory in which `PREVIOUS` is prepared.
const MOVING: &str = ".previous.moving";

/// Moves the run in `directory` into `.previous`, in place of the run there.
pub(super) fn replace(directory: &Path) -> Result<(), Error> {
    let moving = directory.join(MOVING);
    // Checked before anything is moved.
    refuse_foreign(&directory.join(PREVIOUS))?;
    make_directory(&moving)?;
    move_files(directory, &moving, &owned::files(directory)?)?;
    finish(directory)
}

/// Completes the move; also one that another process began before it was killed.
pub(super) fn finish(directory: &Path) -> Result<(), Error> {
    let (moving, previous) = (directory.join(MOVING), directory.join(PREVIOUS));
    if !is_directory(&moving) {
        return Ok(());
    }
    refuse_link(&previous)?;
    if is_ours(&moving) {
        remove_run(&previous)?;
        // `.previous` is gone now, unless it also holds files of the user.
        if !is_there(&previous) {
            return fs::rename(&moving, &previous).map_err(Error::io("move", &moving));
        }
    } else if is_ours(directory) || !is_ours(&previous) {
        // The `run.json` of the run that is being moved has not been moved yet: `replace` will do it.
        return Ok(());
    }
    // Move the files into the existing directory. The `run.json` goes first: once it is there, the other files are
    // known to belong there.
    let mut files = vec![PathBuf::from(MANIFEST)];
    let all = files_below(&moving)?;
    files.extend(all.into_iter().filter(|file| file != Path::new(MANIFEST)));
    move_files(&moving, &previous, &files)?;
    match fs::remove_dir(&moving) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &moving)(error)),
        _ => Ok(()),
    }
}

/// Whether anything exists at the path, even a broken link.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Fails if the path is a link or a file. A run makes no links, so a link leads to files of another program.
fn refuse_link(path: &Path) -> Result<(), Error> {
    if is_there(path) && !is_directory(path) {
        let not_a_directory =
            io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory of bitnet-trace; move it away");
        return Err(Error::io("replace", path)(not_a_directory));
    }
    Ok(())
}

/// Creates a directory if it does not exist.
fn make_directory(path: &Path) -> Result<(), Error> {
    refuse_link(path)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("create", path)(error)),
        _ => Ok(()),
    }
}

/// Fails if `.previous` holds files but not a run of bitnet-trace: then it belongs to the user.
fn refuse_foreign(previous: &Path) -> Result<(), Error> {
    refuse_link(previous)?;
    if previous.exists() && !is_ours(previous) && !entries(previous)?.is_empty() {
        let not_a_run = io::Error::other("it does not hold a run of bitnet-trace; move it away");
        return Err(Error::io("replace", previous)(not_a_run));
    }
    Ok(())
}

/// Removes the files of the run in a directory, and the directory if it is then empty.
fn remove_run(directory: &Path) -> Result<(), Error> {
    if !is_directory(directory) {
        return Ok(());
    }
    let files = if is_ours(directory) { owned::files(directory)? } else { Vec::new() };
    for file in &files {
        let path = directory.join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
            _ => {}
        }
    }
    remove_empty(directory, &files);
    let _ = fs::remove_dir(directory);
    Ok(())
}

/// Moves files in the given order, then removes the directories that became empty.
fn move_files(from: &Path, to: &Path, files: &[PathBuf]) -> Result<(), Error> {
    let mut made = HashSet::new();
    for file in files {
        let (old, new) = (from.join(file), to.join(file));
        // From the outermost directory inwards. `ancestors` ends with the empty path, which is `to` itself.
        let parents: Vec<_> = file.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev() {
            if made.insert(parent) {
                make_directory(&to.join(parent))?;
            }
        }
        if new.symlink_metadata().is_ok() {
            if old.symlink_metadata().is_err() {
                continue;
            }
            let in_the_way = io::Error::new(io::ErrorKind::AlreadyExists, "a file with that name exists; move it away");
            return Err(Error::io("move a file to", &new)(in_the_way));
        }
        match fs::rename(&old, &new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("move", &old)(error)),
            _ => {}
        }
    }
    remove_empty(from, files);
    Ok(())
}

/// Removes the directories that held these files, if they are empty now.
fn remove_empty(directory: &Path, files: &[PathBuf]) {
    let mut inside: Vec<&Path> = files.iter().flat_map(|file| file.ancestors().skip(1)).collect();
    inside.sort_unstable();
    inside.dedup();
    // From the innermost directory outwards.
    for inside in inside.iter().rev().filter(|inside| !inside.as_os_str().is_empty()) {
        let path = directory.join(inside);
        if !is_directory(&path) {
            continue;
        }
        // The lock file of a further process is left over: that process has ended.
        let lock = path.join(LOCK);
        if is_own_process_directory(&path) && entries(&path).is_ok_and(|entries| entries == [lock.as_path()]) {
            let _ = fs::remove_file(&lock);
        }
        let _ = fs::remove_dir(&path);
    }
}

/// Every file below a directory, relative to it.
fn files_below(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(inside) = directories.pop() {
        for path in entries(&directory.join(&inside))? {
            let relative = inside.join(path.file_name().unwrap_or_default());
            if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
                directories.push(relative);
            } else {
                files.push(relative);
            }
        }
    }
    Ok(files)
}
