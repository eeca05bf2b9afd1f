//! Which directory a run writes into: its own, never another process's, never somebody else's.
//!
//! Whoever begins a run first takes its turn: one process at a time looks at a directory, moves an
//! older run aside and writes its own `run.json`. Whether the process of a run still lives is told by
//! an advisory lock on `.lock`, which the system releases even after `kill -9`; where there is no lock
//! to ask (file systems without locks, runs between two sessions), by the process id in `run.json`.

mod lock;
mod owned;
mod previous;
mod process;

use std::borrow::Cow;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::failing::warn;
use crate::record::layout::{JSONL, MANIFEST, OURS, entries, is_own_process_directory, is_record};
use crate::trace::pieces::manifest_of;

use lock::{DENIED, IN_USE, Lock, NO_LOCK, Probe, Turn};
pub(crate) use process::identity;
use process::{Life, life};

/// Held by the process that records here.
const LOCK: &str = ".lock";

/// A directory that this process may write a run into.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) directory: PathBuf,
    lock: Lock,
}

impl Claim {
    /// Whether the directory is still this process's: it may have been deleted, and even made again
    /// by another one.
    pub(crate) fn holds(&self) -> bool {
        self.lock.is_file(&self.directory.join(LOCK))
    }
}

/// Takes `requested` (created with its parents if need be) or a directory inside it, and calls
/// `begin`, which writes `run.json`, before any other process may look:
///
/// * an older run of ours is moved into `.previous`,
/// * beside records or a `run.json` of something else, and beside an older run that cannot be moved,
///   `run-<pid>` is taken,
/// * beside a run of a live process, `p<pid>` is taken.
pub(crate) fn claim<T>(requested: &Path, begin: impl FnOnce(Claim) -> Result<T, Error>) -> Result<T, Error> {
    fs::create_dir_all(requested).map_err(Error::io("create", requested))?;
    let _turn = match Turn::take(requested)? {
        Ok(turn) => turn,
        Err(why) => return begin(claim_inside(requested, "p", why)?),
    };
    let claim = match occupant(requested)? {
        Occupant::Live(why) => claim_inside(requested, "p", why)?,
        Occupant::Foreign(why) => claim_inside(requested, "run-", &why)?,
        Occupant::Older => match previous::replace(requested) {
            Ok(()) => claim_here(requested)?,
            Err(error) => claim_inside(requested, "run-", &stays(&error))?,
        },
        Occupant::Nobody => claim_here(requested)?,
    };
    begin(claim)
}

/// Takes up the run with this id again, which this process left in `directory`. `None` if it is not
/// there any more.
pub(crate) fn reclaim(requested: &Path, directory: &Path, id: &str) -> Result<Option<Claim>, Error> {
    let Ok(_turn) = Turn::take(requested)? else { return Ok(None) };
    if !holds_run(directory, id) {
        return Ok(None);
    }
    let lock = Lock::take(&directory.join(LOCK))?;
    Ok(lock.ok().map(|lock| Claim { directory: directory.to_owned(), lock }))
}

/// Whether the `run.json` of a directory is that of the run with this id.
pub(crate) fn holds_run(directory: &Path, id: &str) -> bool {
    manifest_of(directory)["run"] == id
}

/// Who has a directory.
enum Occupant {
    Nobody,
    /// A run of ours whose process is gone, as are those of the directories inside.
    Older,
    /// It lives, or that cannot be told; says what is known.
    Live(&'static str),
    /// Not a run of ours; says what is there.
    Foreign(Cow<'static, str>),
}

/// What is said of an older run that could not be moved.
fn stays(error: &Error) -> String {
    format!("holds an older run that cannot be moved aside ({})", error.full())
}

fn occupant(directory: &Path) -> Result<Occupant, Error> {
    if let Some(why) = in_use(directory) {
        return Ok(Occupant::Live(why));
    }
    if Lock::probe(&directory.join(LOCK)) == Probe::NoFile {
        return Ok(Occupant::Foreign(NO_LOCK.into()));
    }
    if let Err(error) = previous::finish(directory) {
        return Ok(Occupant::Foreign(stays(&error).into()));
    }
    if is_ours(directory) {
        for path in entries(directory)? {
            if is_own_process_directory(&path)
                && let Some(why) = in_use(&path)
            {
                return Ok(Occupant::Live(why));
            }
        }
        return Ok(Occupant::Older);
    }
    if directory.join(MANIFEST).symlink_metadata().is_ok() {
        return Ok(Occupant::Foreign("holds a run.json of something else".into()));
    }
    let holds_records = entries(directory)?.iter().any(|path| is_record(path) && path.is_file());
    if holds_records || directory.join(JSONL).symlink_metadata().is_ok() {
        return Ok(Occupant::Foreign("holds records of something else".into()));
    }
    Ok(Occupant::Nobody)
}

/// Whether the directory holds a run of ours, by its `run.json`.
fn is_ours(directory: &Path) -> bool {
    manifest_of(directory)["schema"].as_str().is_some_and(|schema| schema.starts_with(OURS))
}

/// Why a directory is left to the process of the run in it: that goes on, or it cannot be told.
fn in_use(directory: &Path) -> Option<&'static str> {
    let lock = Lock::probe(&directory.join(LOCK));
    if lock == Probe::Taken {
        return Some(IN_USE);
    }
    if !is_ours(directory) {
        return None;
    }
    // The system may hide the processes of other users.
    if lock == Probe::Denied {
        return Some(DENIED);
    }
    match life(&manifest_of(directory), directory) {
        Life::Goes => Some(IN_USE),
        Life::Ended => None,
        // Of another machine: without a lock to ask, it is left alone.
        Life::Unknown => (lock != Probe::Free).then_some(IN_USE),
    }
}

fn claim_here(directory: &Path) -> Result<Claim, Error> {
    // What is left after the older run was moved: the name of our own file is taken.
    if directory.join(JSONL).symlink_metadata().is_ok() {
        return claim_inside(directory, "run-", "holds records of something else");
    }
    match Lock::take(&directory.join(LOCK))? {
        Ok(lock) => Ok(Claim { directory: directory.to_owned(), lock }),
        Err(why) => claim_inside(directory, "p", why),
    }
}

/// Takes a directory inside that was not there before: of two processes with one id (on two machines,
/// in two containers) the second gets `p<pid>-2`.
fn claim_inside(directory: &Path, prefix: &str, why: &str) -> Result<Claim, Error> {
    let id = std::process::id();
    for number in 1.. {
        let name = if number == 1 { format!("{prefix}{id}") } else { format!("{prefix}{id}-{number}") };
        let inside = directory.join(name);
        match fs::create_dir(&inside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(Error::io("create", &inside)(error)),
            Ok(()) => {}
        }
        let Ok(lock) = Lock::take(&inside.join(LOCK))? else { continue };
        warn(format_args!("{} {why}; this process records into {}", directory.display(), inside.display()));
        return Ok(Claim { directory: inside, lock });
    }
    unreachable!("there are more numbers than directories")
}
