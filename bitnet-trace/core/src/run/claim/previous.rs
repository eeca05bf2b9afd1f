//! Moves an older run aside, and removes the one before it: file by file, only what is theirs.
//!
//! Killed at any moment, the next process goes on: a `run.json` moves after everything else of its
//! run, and is removed after it.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{LOCK, is_ours, owned};
use crate::error::Error;
use crate::record::layout::{MANIFEST, entries, is_directory, is_own_process_directory};

/// Where the run before this one is kept.
const PREVIOUS: &str = ".previous";
/// `PREVIOUS` in the making.
const MOVING: &str = ".previous.moving";

/// Makes the run in `directory` the previous one, in place of the one that is.
pub(super) fn replace(directory: &Path) -> Result<(), Error> {
    let moving = directory.join(MOVING);
    // Before anything is moved.
    refuse_foreign(&directory.join(PREVIOUS))?;
    make_directory(&moving)?;
    move_files(directory, &moving, &owned::files(directory)?)?;
    finish(directory)
}

/// Finishes what a process that was killed left half done.
pub(super) fn finish(directory: &Path) -> Result<(), Error> {
    let (moving, previous) = (directory.join(MOVING), directory.join(PREVIOUS));
    if !is_directory(&moving) {
        return Ok(());
    }
    refuse_link(&previous)?;
    if is_ours(&moving) {
        remove_run(&previous)?;
        // Gone, unless there is something of the user's in it.
        if !is_there(&previous) {
            return fs::rename(&moving, &previous).map_err(Error::io("move", &moving));
        }
    } else if is_ours(directory) || !is_ours(&previous) {
        // Its `run.json` is still to come.
        return Ok(());
    }
    // Into what is there. The `run.json` first: with it in its place, the rest is known to belong there.
    let mut files = vec![PathBuf::from(MANIFEST)];
    let all = files_below(&moving)?;
    files.extend(all.into_iter().filter(|file| file != Path::new(MANIFEST)));
    move_files(&moving, &previous, &files)?;
    match fs::remove_dir(&moving) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", &moving)(error)),
        _ => Ok(()),
    }
}

/// Also a link that leads nowhere is there.
fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// A run makes no links: what one leads to is somebody else's.
fn refuse_link(path: &Path) -> Result<(), Error> {
    if is_there(path) && !is_directory(path) {
        let no_directory = io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory of ours; move it away");
        return Err(Error::io("replace", path)(no_directory));
    }
    Ok(())
}

/// Makes a directory, where there is none.
fn make_directory(path: &Path) -> Result<(), Error> {
    refuse_link(path)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(Error::io("create", path)(error)),
        _ => Ok(()),
    }
}

/// A `.previous` that holds something, but no run of ours, is the user's.
fn refuse_foreign(previous: &Path) -> Result<(), Error> {
    refuse_link(previous)?;
    if previous.exists() && !is_ours(previous) && !entries(previous)?.is_empty() {
        let no_run = io::Error::other("it is not a run of ours; move it away");
        return Err(Error::io("replace", previous)(no_run));
    }
    Ok(())
}

/// Removes what the run in a directory wrote, and the directory if nothing else is in it.
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

/// Moves files, in their order, and removes the directories that are empty then.
fn move_files(from: &Path, to: &Path, files: &[PathBuf]) -> Result<(), Error> {
    let mut made = HashSet::new();
    for file in files {
        let (old, new) = (from.join(file), to.join(file));
        // From the outside in; the last is the directory itself.
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
            let in_the_way = io::Error::new(io::ErrorKind::AlreadyExists, "a file of that name is there; move it away");
            return Err(Error::io("move a record to", &new)(in_the_way));
        }
        match fs::rename(&old, &new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("move", &old)(error)),
            _ => {}
        }
    }
    remove_empty(from, files);
    Ok(())
}

/// Removes the directories that held these files, where they are empty now.
fn remove_empty(directory: &Path, files: &[PathBuf]) {
    let mut inside: Vec<&Path> = files.iter().flat_map(|file| file.ancestors().skip(1)).collect();
    inside.sort_unstable();
    inside.dedup();
    // From the inside out.
    for inside in inside.iter().rev().filter(|inside| !inside.as_os_str().is_empty()) {
        let path = directory.join(inside);
        if !is_directory(&path) {
            continue;
        }
        // A process's own lock, which nobody holds any more.
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
