//! Decides which directory a run writes into. It never writes into a directory that another process or another program
//! uses.
//!
//! A process that begins a run first takes a turn: only one process at a time may inspect a directory, move an older
//! run aside and write its own `run.json`. An advisory lock on `.lock` shows whether the process of a run is still
//! alive; the system releases it even after `kill -9`. If there is no lock (on file systems without locks, or while the
//! process of a run has no session), the process id in `run.json` shows it.

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

/// The file whose lock the process that records in a directory holds.
const LOCK: &str = ".lock";

/// A directory that this process may write a run into.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) directory: PathBuf,
    lock: Lock,
}

impl Claim {
    /// Whether the directory still belongs to this process: it may have been deleted and even created again by another
    /// process.
    pub(crate) fn holds(&self) -> bool {
        self.lock.is_file(&self.directory.join(LOCK))
    }
}

/// Claims `requested`, which is created with its parents if it does not exist, or a directory inside it. Then calls
/// `begin`, which writes `run.json` while no other process may inspect the directory.
///
/// * If `requested` holds an older run, the run is moved into `.previous`.
/// * If it holds records or a `run.json` of another program, or an older run that cannot be moved, the claim is on
///   `run-<pid>` inside it.
/// * If the process of its run is alive, the claim is on `p<pid>` inside it.
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
            Err(error) => claim_inside(requested, "run-", &cannot_be_moved(&error))?,
        },
        Occupant::Nobody => claim_here(requested)?,
    };
    begin(claim)
}

/// Claims the directory of this process's run with this id again, after all its sessions left. `None` if the run is no
/// longer there.
pub(crate) fn reclaim(requested: &Path, directory: &Path, id: &str) -> Result<Option<Claim>, Error> {
    let Ok(_turn) = Turn::take(requested)? else { return Ok(None) };
    if !holds_run(directory, id) {
        return Ok(None);
    }
    let lock = Lock::take(&directory.join(LOCK))?;
    Ok(lock.ok().map(|lock| Claim { directory: directory.to_owned(), lock }))
}

/// Whether the `run.json` of a directory belongs to the run with this id.
pub(crate) fn holds_run(directory: &Path, id: &str) -> bool {
    manifest_of(directory)["run"] == id
}

/// Who uses a directory.
enum Occupant {
    Nobody,
    /// A run of bitnet-trace whose process ended, as did the processes of the directories inside.
    Older,
    /// A run whose process is alive or may be alive; the text says which.
    Live(&'static str),
    /// Files that are not a run of bitnet-trace, or a run that cannot be moved; the text says which.
    Foreign(Cow<'static, str>),
}

/// Says that an older run could not be moved.
fn cannot_be_moved(error: &Error) -> String {
    format!("holds an older run that cannot be moved aside ({})", error.full())
}

fn occupant(directory: &Path) -> Result<Occupant, Error> {
    if let Some(why) = in_use(directory) {
        return Ok(Occupant::Live(why));
    }
    if Lock::probe(&directory.join(LOCK)) == Probe::NotAFile {
        return Ok(Occupant::Foreign(NO_LOCK.into()));
    }
    if let Err(error) = previous::finish(directory) {
        return Ok(Occupant::Foreign(cannot_be_moved(&error).into()));
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
        return Ok(Occupant::Foreign("holds a run.json that is not of bitnet-trace".into()));
    }
    let holds_records = entries(directory)?.iter().any(|path| is_record(path) && path.is_file());
    if holds_records || directory.join(JSONL).symlink_metadata().is_ok() {
        return Ok(Occupant::Foreign("holds records without a run.json of bitnet-trace".into()));
    }
    Ok(Occupant::Nobody)
}

/// Whether the directory holds a run of bitnet-trace, by the schema in its `run.json`.
fn is_ours(directory: &Path) -> bool {
    manifest_of(directory)["schema"].as_str().is_some_and(|schema| schema.starts_with(OURS))
}

/// The reason to leave a directory to the process of the run in it: the process is alive, or may be. `None` if nothing
/// uses the directory.
fn in_use(directory: &Path) -> Option<&'static str> {
    let lock = Lock::probe(&directory.join(LOCK));
    if lock == Probe::Taken {
        return Some(IN_USE);
    }
    if !is_ours(directory) {
        return None;
    }
    // The lock belongs to another user, whose processes the system may hide.
    if lock == Probe::Denied {
        return Some(DENIED);
    }
    match life(&manifest_of(directory), directory) {
        Life::Alive => Some(IN_USE),
        Life::Ended => None,
        // The process is on another machine or in another container: only a free lock shows that it ended.
        Life::Unknown => (lock != Probe::Free).then_some(IN_USE),
    }
}

fn claim_here(directory: &Path) -> Result<Claim, Error> {
    // An older run was moved, and a file that was not its own stayed: this run could not create its `trace.jsonl`.
    if directory.join(JSONL).symlink_metadata().is_ok() {
        return claim_inside(directory, "run-", "holds a trace.jsonl that the older run did not write");
    }
    match Lock::take(&directory.join(LOCK))? {
        Ok(lock) => Ok(Claim { directory: directory.to_owned(), lock }),
        Err(why) => claim_inside(directory, "p", why),
    }
}

/// Claims a new directory inside `directory`. If two processes have the same id (on two machines, in two containers),
/// the second one gets `p<pid>-2`.
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
    unreachable!("a directory name is found before the numbers run out")
}
