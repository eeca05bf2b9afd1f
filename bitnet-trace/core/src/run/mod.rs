//! The run floor: everything that one process records into one place, from its first record to its exit.
//!
//! A [`Run`] gives records their order and repeat numbers, counts losses, and keeps `run.json` up to date. `claim`
//! decides which directory a run may write into, `directory` keeps its open files, `exit` finishes the runs
//! when the process ends, `own` remembers which records a session wrote, and `config` holds the settings. Several
//! sessions of a process may share a run.
//!
//! It imports `digest`, `record`, `trace` and `sink`, and never `session`: the sessions build on it.

mod claim;
pub(crate) mod config;
mod directory;
mod exit;
mod library;
pub(crate) mod losses;
mod manifest;
pub(crate) mod own;
mod repeats;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::Value;

pub(crate) use library::Library;
pub use library::{Plain, TensorLibrary};

use crate::digest::TensorView;
use crate::error::Error;
use crate::failing::{guarded, locked, warn};
use crate::record::TraceRecord;
use crate::record::layout::MANIFEST;
use crate::sink::Memory;
use crate::trace::Values;
use claim::{Claim, claim};
use config::{Config, Format};
use directory::Directory;
use losses::{Losses, Pace};
use manifest::{Progress, Reached};
use own::RecordPlace;
use repeats::Repeats;

/// The state that all writers to one place share: the execution order, the repeat numbers, the losses.
pub(crate) struct Run {
    store: Store,
    library: Library,
    repeats: Mutex<Repeats>,
    /// Number of records written.
    written: AtomicU64,
    losses: Losses,
    /// Limits how often losses update `run.json`.
    pace: Mutex<Pace>,
    annotations: Mutex<BTreeMap<String, Value>>,
    /// Whether the program was already warned that annotations could not be written.
    warned: AtomicBool,
    started: SystemTime,
    /// The process that began the run. One that was forked from it inherits the run, and leaves its `run.json` alone.
    process: u32,
    /// Number of the run within the process, from 1.
    pub(crate) number: u64,
    /// Numbers of the annotated functions that were called.
    reached: Mutex<HashSet<usize>>,
    /// Held while `run.json` is written.
    writing: Mutex<()>,
    /// Whether a `TraceSession` is recording into this run.
    pub(crate) in_session: AtomicBool,
}

/// Where records are kept.
enum Store {
    Directory(Box<Directory>),
    Memory(Memory),
}

/// A user of a run: the run's files stay open until the last `Hold` is dropped.
pub(crate) struct Hold(Arc<Run>);

impl Hold {
    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.0
    }

    /// Adds another user of the run.
    pub(crate) fn another(&self) -> Self {
        if let Store::Directory(directory) = &self.0.store {
            directory.add_user();
        }
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Store::Directory(directory) = &self.0.store {
            directory.leave();
        }
    }
}

/// The runs of this process by the directory that was requested; the last of each list is the current one. They stay
/// until the process exits, so that a session that returns to a directory continues the order and repeat numbers.
static RUNS: Mutex<Option<HashMap<PathBuf, Vec<Arc<Run>>>>> = Mutex::new(None);

/// Largest size of an annotation in bytes, key and value as JSON.
const LARGEST_ANNOTATION: usize = 1024 * 1024;

impl Run {
    /// The run of this process in `directory`; begins one if there is none. The directory is created with its
    /// parents, also if it was deleted in the meantime.
    pub(crate) fn in_directory(directory: &Path, config: &Config, library: Library) -> Result<Hold, Error> {
        guarded("claiming the trace directory", || Self::find(directory, config, library))
    }

    fn find(directory: &Path, config: &Config, library: Library) -> Result<Hold, Error> {
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        let key = directory.canonicalize().map_err(Error::io("read", directory))?;
        let mut all = locked(&RUNS);
        let all = all.get_or_insert_default();
        // A directory inside another one may be where a run of this process went because the outer one was taken.
        if !all.contains_key(&key)
            && let Some(around) = key.parent()
            && let Some(run) = all.get(around).and_then(|runs| runs.iter().find(|run| run.directory() == Some(&*key)))
            && let Some(hold) = run.rejoin(around)?
        {
            return Ok(hold);
        }
        let runs = all.entry(key.clone()).or_default();
        if let Some(run) = runs.last()
            && let Some(hold) = run.rejoin(&key)?
        {
            return Ok(hold);
        }
        // There was no run, or its directory was deleted or now belongs to another program.
        claim(&key, |claim| {
            if let Some(run) = runs.last()
                && let Store::Directory(directory) = &run.store
                && directory.path == claim.directory
            {
                directory.join_recreated(claim);
                let hold = Hold(Arc::clone(run));
                run.write_manifest(None)?;
                return Ok(hold);
            }
            let hold = Self::begin(claim, config, library)?;
            runs.push(Arc::clone(&hold.0));
            Ok(hold)
        })
    }

    /// Adds a user to this run, which began when `requested` was requested. `None` if its directory was deleted or
    /// now belongs to another program, or the run to the process that this one was forked from.
    fn rejoin(self: &Arc<Self>, requested: &Path) -> Result<Option<Hold>, Error> {
        let Store::Directory(directory) = &self.store else { return Ok(None) };
        if self.is_inherited() {
            return Ok(None);
        }
        if directory.join() {
            let hold = Hold(Arc::clone(self));
            if !directory.path.join(MANIFEST).exists() {
                self.write_manifest(None)?;
            }
            return Ok(Some(hold));
        }
        Ok(directory.join_reclaimed(requested)?.then(|| Hold(Arc::clone(self))))
    }

    fn begin(claim: Claim, config: &Config, library: Library) -> Result<Hold, Error> {
        let now = SystemTime::now();
        let id = RandomState::new().hash_one((std::process::id(), now));
        let directory = Directory::new(claim, format!("{id:016x}"), config.clone());
        let hold = Hold(Arc::new(Self::new(Store::Directory(Box::new(directory)), library, now)));
        hold.0.write_manifest(None)?;
        exit::at_exit(finish_all);
        Ok(hold)
    }

    /// A run that writes no files.
    pub(crate) fn in_memory() -> Hold {
        Hold(Arc::new(Self::new(Store::Memory(Memory::default()), Library::of::<Plain>(), SystemTime::now())))
    }

    fn new(store: Store, library: Library, started: SystemTime) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            store,
            library,
            process: std::process::id(),
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            reached: Mutex::default(),
            repeats: Mutex::default(),
            written: AtomicU64::new(0),
            losses: Losses::default(),
            pace: Mutex::default(),
            annotations: Mutex::default(),
            warned: AtomicBool::new(false),
            started,
            writing: Mutex::default(),
            in_session: AtomicBool::new(false),
        }
    }

    /// The directory of the records: the requested one, or one inside it. `None` for a run in memory.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.store {
            Store::Directory(directory) => Some(&directory.path),
            Store::Memory(_) => None,
        }
    }

    /// Removes and returns the records of a run in memory; other runs return none.
    pub(crate) fn take_memory(&self) -> Vec<(TraceRecord, Option<Values>)> {
        match &self.store {
            Store::Memory(memory) => memory.take(),
            Store::Directory(_) => Vec::new(),
        }
    }

    /// Gives the record its repeat number and its place in the order, and writes it; `values` is its tensor if
    /// values were asked for. If only its values or its row hashes cannot be written, the record is kept without
    /// them, and the errors are in the list that is returned.
    pub(crate) fn write(
        &self,
        record: &mut TraceRecord,
        values: Option<&TensorView<'_>>,
        format: Format,
    ) -> Result<(RecordPlace, Vec<Error>), Error> {
        let (call, order) = locked(&self.repeats).next(record);
        (record.call, record.order) = (call, Some(order));
        if call > 0 {
            record.name = format!("{}#{call}", record.name);
        }
        let written = match &self.store {
            Store::Memory(memory) => (RecordPlace::Memory, memory.write(record, values).into_iter().collect()),
            Store::Directory(directory) => {
                if directory.is_first_of(format) {
                    // `run.json` names the format before its first file exists. Readers find the file also without it.
                    let _ = self.write_manifest(None);
                }
                directory.write(record, values, format)?
            }
        };
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    /// Counts a record that could not be written, and adds it to `run.json`. Returns whether it is the first loss of
    /// its cause.
    pub(crate) fn lose(&self, error: &Error) -> bool {
        let first = self.losses.add(error);
        // If `run.json` cannot be written, the losses are printed when the process ends.
        locked(&self.pace).keep(|| drop(self.write_manifest(None)));
        first
    }

    /// Notes that the annotated function of this number was called.
    pub(crate) fn reach(&self, function: usize) {
        locked(&self.reached).insert(function);
    }

    fn reached(&self) -> Reached {
        let functions = (self.library.functions)();
        let reached = locked(&self.reached);
        let sites = functions.len();
        let unreached = functions.into_iter().filter(|(number, _)| !reached.contains(number));
        Reached { sites, unreached: unreached.map(|(_, function)| function).collect() }
    }

    /// Adds a fact to `run.json` at once. Large facts are refused with a warning, because readers limit the size of
    /// `run.json`.
    pub(crate) fn annotate(&self, key: &str, value: Value) {
        let size = serde_json::to_vec(&(key, &value)).map_or(0, |json| json.len());
        if size > LARGEST_ANNOTATION {
            let shown: String = key.chars().take(80).collect();
            warn(format_args!(
                "annotate_run {shown:?} is ignored: the annotation has {size} bytes, at most {LARGEST_ANNOTATION} are allowed"
            ));
            return;
        }
        locked(&self.annotations).insert(key.to_owned(), value);
        if let Err(error) = self.write_manifest(None)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            warn(format_args!("{}; run.json does not have the annotations of annotate_run yet", error.full()));
        }
    }

    /// Whether the run is that of the process that this one was forked from.
    fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }

    /// Writes `run.json`, if the run is not inherited. `finished` is the time at which the run ended cleanly, `None` before
    /// that.
    pub(crate) fn write_manifest(&self, finished: Option<SystemTime>) -> Result<(), Error> {
        let Store::Directory(directory) = &self.store else { return Ok(()) };
        if self.is_inherited() {
            return Ok(());
        }
        let _writing = locked(&self.writing);
        directory.check_manifest()?;
        let progress = Progress {
            started: self.started,
            finished,
            records: self.written.load(Ordering::Relaxed),
            losses: self.losses.list(),
            annotations: locked(&self.annotations).clone(),
            reached: self.reached(),
        };
        manifest::write(&manifest::manifest(directory, self.library, progress), &directory.path)
    }
}

/// Makes everything recorded so far readable by others: the records already are, so it updates `run.json`. It goes
/// through all runs that have users, and returns the first error.
pub(crate) fn flush_all() -> Result<(), Error> {
    let is_recording = |run: &&Arc<Run>| match &run.store {
        Store::Directory(directory) => directory.is_open() && directory.is_ours(),
        Store::Memory(_) => false,
    };
    let outcomes: Vec<_> = all().iter().filter(is_recording).map(|run| run.write_manifest(None)).collect();
    outcomes.into_iter().collect()
}

/// Finishes all runs when the process ends. `clean` says that main returned or called `process::exit`.
fn finish_all(clean: bool) {
    for run in all().into_iter().filter(|run| !run.is_inherited()) {
        let Store::Directory(directory) = &run.store else { continue };
        // A directory that was deleted is not created again.
        let is_written = directory.is_ours()
            && run.write_manifest(clean.then(SystemTime::now)).map_err(|error| warn(error.full())).is_ok();
        if !is_written {
            for loss in run.losses.list() {
                warn(format_args!("records lost in {}: {loss}", directory.path.display()));
            }
        }
    }
}

fn all() -> Vec<Arc<Run>> {
    locked(&RUNS).iter().flat_map(HashMap::values).flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::config::Config;
    use super::{LARGEST_ANNOTATION, Library, Plain, Run};
    use crate::trace::pieces::manifest_of;

    #[test]
    fn an_annotation_that_is_too_large_for_readers_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let hold = Run::in_directory(dir.path(), &Config::default(), Library::of::<Plain>()).expect("a run");
        hold.run().annotate("small", "x".repeat(1000).into());
        hold.run().annotate("large", "x".repeat(LARGEST_ANNOTATION).into());
        let annotations = manifest_of(dir.path())["annotations"].clone();
        assert_eq!(annotations.as_object().expect("an object").keys().collect::<Vec<_>>(), ["small"]);
    }
}
