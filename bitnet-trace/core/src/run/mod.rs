//! One run: everything that one process records into one place, from its first record to its exit.

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
use manifest::{Coverage, Progress};
use own::Written;
use repeats::Repeats;

/// What every writer to one place shares: the execution order, the repeat numbers, the losses.
pub(crate) struct Run {
    place: Place,
    library: Library,
    repeats: Mutex<Repeats>,
    written: AtomicU64,
    losses: Losses,
    /// How often losses bring `run.json` up to date.
    pace: Mutex<Pace>,
    annotations: Mutex<BTreeMap<String, Value>>,
    /// That annotations could not be written was said.
    warned: AtomicBool,
    started: SystemTime,
    /// Tells the runs of a process apart, from 1.
    pub(crate) number: u64,
    /// The annotated functions that were called, by number.
    reached: Mutex<HashSet<usize>>,
    /// Held while `run.json` is written.
    writing: Mutex<()>,
    /// Whether a `TraceSession` records here now.
    pub(crate) in_session: AtomicBool,
}

/// Where records are kept.
enum Place {
    Directory(Box<Directory>),
    Memory(Memory),
}

/// Keeps a run's files open as long as it lives.
pub(crate) struct Hold(Arc<Run>);

impl Hold {
    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.0
    }

    /// One more of it.
    pub(crate) fn again(&self) -> Self {
        if let Place::Directory(directory) = &self.0.place {
            directory.join_others();
        }
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Place::Directory(directory) = &self.0.place {
            directory.leave();
        }
    }
}

/// The runs of this process by the directory that was asked for, the one that goes on last. They stay
/// until it exits, so that whoever comes back to a directory counts on.
static RUNS: Mutex<Option<HashMap<PathBuf, Vec<Arc<Run>>>>> = Mutex::new(None);

/// Bytes of an annotation, key and value as JSON.
const LARGEST_ANNOTATION: usize = 1024 * 1024;

impl Run {
    /// The run of this process in `directory`, begun if there is none. The directory is created
    /// with its parents, also when it was deleted since.
    pub(crate) fn in_directory(directory: &Path, config: &Config, library: Library) -> Result<Hold, Error> {
        guarded("claiming the trace directory", || Self::find(directory, config, library))
    }

    fn find(directory: &Path, config: &Config, library: Library) -> Result<Hold, Error> {
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        let key = directory.canonicalize().map_err(Error::io("read", directory))?;
        let mut all = locked(&RUNS);
        let all = all.get_or_insert_default();
        // The directory inside another one that a run of this process was led to.
        if !all.contains_key(&key)
            && let Some(around) = key.parent()
            && let Some(run) = all.get(around).and_then(|runs| runs.iter().find(|run| run.directory() == Some(&*key)))
            && let Some(hold) = run.go_on(around)?
        {
            return Ok(hold);
        }
        let runs = all.entry(key.clone()).or_default();
        if let Some(run) = runs.last()
            && let Some(hold) = run.go_on(&key)?
        {
            return Ok(hold);
        }
        // There was none; or its directory is gone, or somebody else's by now.
        claim(&key, |claim| {
            if let Some(run) = runs.last()
                && let Place::Directory(directory) = &run.place
                && directory.path == claim.directory
            {
                directory.join_anew(claim);
                let hold = Hold(Arc::clone(run));
                run.write_manifest(None)?;
                return Ok(hold);
            }
            let hold = Self::begin(claim, config, library)?;
            runs.push(Arc::clone(&hold.0));
            Ok(hold)
        })
    }

    /// One more who records into this run, which began when `asked` was asked for. `None` if its
    /// directory is gone, or somebody else's by now.
    fn go_on(self: &Arc<Self>, asked: &Path) -> Result<Option<Hold>, Error> {
        let Place::Directory(directory) = &self.place else { return Ok(None) };
        if directory.join() {
            let hold = Hold(Arc::clone(self));
            if !directory.path.join(MANIFEST).exists() {
                self.write_manifest(None)?;
            }
            return Ok(Some(hold));
        }
        Ok(directory.join_again(asked)?.then(|| Hold(Arc::clone(self))))
    }

    fn begin(claim: Claim, config: &Config, library: Library) -> Result<Hold, Error> {
        let now = SystemTime::now();
        let id = RandomState::new().hash_one((std::process::id(), now));
        let directory = Directory::new(claim, format!("{id:016x}"), config.clone());
        let hold = Hold(Arc::new(Self::new(Place::Directory(Box::new(directory)), library, now)));
        hold.0.write_manifest(None)?;
        exit::at_exit(finish_all);
        Ok(hold)
    }

    /// A run that leaves nothing behind.
    pub(crate) fn in_memory() -> Hold {
        Hold(Arc::new(Self::new(Place::Memory(Memory::default()), Library::of::<Plain>(), SystemTime::now())))
    }

    fn new(place: Place, library: Library, started: SystemTime) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            place,
            library,
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

    /// Where the records lie: the directory asked for, or one inside it. None in memory.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(&directory.path),
            Place::Memory(_) => None,
        }
    }

    /// What a run in memory holds; empty for others.
    pub(crate) fn take_memory(&self) -> Vec<(TraceRecord, Option<Values>)> {
        match &self.place {
            Place::Memory(memory) => memory.take(),
            Place::Directory(_) => Vec::new(),
        }
    }

    /// Gives the record its repeat number and its place in the order, and keeps it; `values` is its
    /// tensor, where values were asked for. Values and rows that cannot be kept do not take the record
    /// with them: the errors come back beside it.
    pub(crate) fn write(
        &self,
        record: &mut TraceRecord,
        values: Option<&TensorView<'_>>,
        format: Format,
    ) -> Result<(Written, Vec<Error>), Error> {
        let (call, order) = locked(&self.repeats).next(record);
        (record.call, record.order) = (call, Some(order));
        if call > 0 {
            record.name = format!("{}#{call}", record.name);
        }
        let written = match &self.place {
            Place::Memory(memory) => (Written::Memory, memory.write(record, values).into_iter().collect()),
            Place::Directory(directory) => {
                if directory.begins(format) {
                    // `run.json` says so before there is such a file. Without it the file is still read.
                    let _ = self.write_manifest(None);
                }
                directory.write(record, values, format)?
            }
        };
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(written)
    }

    /// Counts a record that could not be kept, and puts it into `run.json`. True if it is the first of
    /// its cause.
    pub(crate) fn lose(&self, error: &Error) -> bool {
        let first = self.losses.add(error);
        // Where `run.json` cannot be written, the losses are said at the end.
        locked(&self.pace).keep(|| drop(self.write_manifest(None)));
        first
    }

    /// The annotated function of this number was called.
    pub(crate) fn reach(&self, function: usize) {
        locked(&self.reached).insert(function);
    }

    fn coverage(&self) -> Coverage {
        let functions = (self.library.functions)();
        let reached = locked(&self.reached);
        let sites = functions.len();
        let unreached = functions.into_iter().filter(|(number, _)| !reached.contains(number));
        Coverage { sites, unreached: unreached.map(|(_, function)| function).collect() }
    }

    /// Puts a fact into `run.json`, at once. Readers take no `run.json` of any size.
    pub(crate) fn annotate(&self, key: &str, value: Value) {
        let size = serde_json::to_vec(&(key, &value)).map_or(0, |json| json.len());
        if size > LARGEST_ANNOTATION {
            let shown: String = key.chars().take(80).collect();
            warn(format_args!(
                "annotate_run {shown:?}: {size} bytes, at most {LARGEST_ANNOTATION} are kept; run.json is without it"
            ));
            return;
        }
        locked(&self.annotations).insert(key.to_owned(), value);
        if let Err(error) = self.write_manifest(None)
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            warn(format_args!("{}; what annotate_run said is not there yet", error.full()));
        }
    }

    /// Writes `run.json`: with a time when the run ended cleanly, without while it goes on.
    pub(crate) fn write_manifest(&self, finished: Option<SystemTime>) -> Result<(), Error> {
        let Place::Directory(directory) = &self.place else { return Ok(()) };
        let _writing = locked(&self.writing);
        directory.check_manifest()?;
        let progress = Progress {
            started: self.started,
            finished,
            records: self.written.load(Ordering::Relaxed),
            losses: self.losses.list(),
            annotations: locked(&self.annotations).clone(),
            coverage: self.coverage(),
        };
        manifest::write(&manifest::manifest(directory, self.library, progress), &directory.path)
    }
}

/// Makes what was recorded so far readable by others: records already are, `run.json` is brought up
/// to date. Goes through all runs that somebody records into, and gives the first error.
pub(crate) fn flush_all() -> Result<(), Error> {
    let goes_on = |run: &&Arc<Run>| match &run.place {
        Place::Directory(directory) => directory.is_open() && directory.is_ours(),
        Place::Memory(_) => false,
    };
    let outcomes: Vec<_> = all().iter().filter(goes_on).map(|run| run.write_manifest(None)).collect();
    outcomes.into_iter().collect()
}

/// At the process's end. `clean`: main returned, or `process::exit` was called.
fn finish_all(clean: bool) {
    for run in all() {
        let Place::Directory(directory) = &run.place else { continue };
        // A directory that was deleted is not made again.
        let told = directory.is_ours()
            && run.write_manifest(clean.then(SystemTime::now)).map_err(|error| warn(error.full())).is_ok();
        if !told {
            for loss in run.losses.list() {
                warn(format_args!("lost in {}: {loss}", directory.path.display()));
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
    fn an_annotation_that_nobody_could_read_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let hold = Run::in_directory(dir.path(), &Config::default(), Library::of::<Plain>()).expect("a run");
        hold.run().annotate("small", "x".repeat(1000).into());
        hold.run().annotate("large", "x".repeat(LARGEST_ANNOTATION).into());
        let annotations = manifest_of(dir.path())["annotations"].clone();
        assert_eq!(annotations.as_object().expect("an object").keys().collect::<Vec<_>>(), ["small"]);
    }
}
