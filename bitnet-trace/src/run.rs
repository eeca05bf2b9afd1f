//! One run: everything that one process records into one place, from its first record to its exit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use candle_core::Tensor;

use crate::annotation::Annotation;
use crate::calls::Calls;
use crate::config::{Config, Format};
use crate::directory::{Claim, claim};
use crate::error::Error;
use crate::exit;
use crate::losses::{Losses, warn};
use crate::manifest::{Coverage, Manifest, Progress};
use crate::paths::MANIFEST;
use crate::record::TraceRecord;
use crate::registry::sites;
use crate::sink::{Alike, Jsonl, Memory, files, values};
use crate::site::Site;

/// What every writer to one place shares: the execution order, the repeat numbers, the losses.
pub(crate) struct Run {
    place: Place,
    calls: Mutex<Calls>,
    written: AtomicU64,
    losses: Losses,
    annotations: Mutex<BTreeMap<String, Annotation>>,
    started: SystemTime,
    /// Tells the runs of a process apart, from 1.
    number: u64,
    /// The annotated functions that were called, by address.
    reached: Mutex<HashSet<usize>>,
    /// Whether a `TraceSession` records here now.
    pub(crate) in_session: AtomicBool,
}

/// Where records are kept.
enum Place {
    Directory(Box<Directory>),
    Memory(Memory),
}

struct Directory {
    path: PathBuf,
    claim: Mutex<Claim>,
    /// Opened by the first record of that format.
    jsonl: Mutex<Option<Arc<Jsonl>>>,
    alike: Alike,
    /// The settings of whoever began the run, for `run.json`.
    config: Config,
    /// Held while `run.json` is written.
    writing: Mutex<()>,
}

/// The runs of this process by the directory that was asked for, the one that goes on last.
static RUNS: Mutex<Option<HashMap<PathBuf, Vec<Arc<Run>>>>> = Mutex::new(None);

fn address(site: &Site) -> usize {
    std::ptr::from_ref(site).addr()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run {
    /// The run of this process in `directory`, begun if there is none. The directory is created
    /// with its parents, also when it was deleted since.
    pub(crate) fn in_directory(directory: &Path, config: &Config) -> Result<Arc<Self>, Error> {
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        let key = directory.canonicalize().map_err(Error::io("read", directory))?;
        let mut runs = locked(&RUNS);
        let runs = runs.get_or_insert_default().entry(key.clone()).or_default();
        if let Some(run) = runs.last() {
            if run.holds() {
                run.restore_manifest()?;
                return Ok(Arc::clone(run));
            }
            // Its directory is gone, or somebody else's by now: what comes goes where there is room.
            let claim = claim(&key)?;
            if run.directory() == Some(&claim.directory) {
                run.resume(claim)?;
                return Ok(Arc::clone(run));
            }
            return Self::begin(claim, config, runs);
        }
        Self::begin(claim(&key)?, config, runs)
    }

    fn begin(claim: Claim, config: &Config, runs: &mut Vec<Arc<Self>>) -> Result<Arc<Self>, Error> {
        let directory = Directory {
            path: claim.directory.clone(),
            claim: Mutex::new(claim),
            jsonl: Mutex::default(),
            alike: Alike::default(),
            config: config.clone(),
            writing: Mutex::default(),
        };
        let run = Arc::new(Self::new(Place::Directory(Box::new(directory))));
        run.write_manifest(None)?;
        runs.push(Arc::clone(&run));
        exit::at_exit(finish_all);
        Ok(run)
    }

    /// A run that leaves nothing behind.
    pub(crate) fn in_memory() -> Arc<Self> {
        Arc::new(Self::new(Place::Memory(Memory::default())))
    }

    fn new(place: Place) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        Self {
            place,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            reached: Mutex::default(),
            calls: Mutex::default(),
            written: AtomicU64::new(0),
            losses: Losses::default(),
            annotations: Mutex::default(),
            started: SystemTime::now(),
            in_session: AtomicBool::new(false),
        }
    }

    /// Whether the directory is still this run's.
    fn holds(&self) -> bool {
        match &self.place {
            Place::Directory(directory) => locked(&directory.claim).holds(),
            Place::Memory(_) => true,
        }
    }

    /// Writes `run.json` again if somebody deleted it.
    fn restore_manifest(&self) -> Result<(), Error> {
        match self.directory() {
            Some(directory) if !directory.join(MANIFEST).exists() => self.write_manifest(None),
            _ => Ok(()),
        }
    }

    /// Goes on in a directory that was deleted and is claimed again.
    fn resume(&self, claim: Claim) -> Result<(), Error> {
        if let Place::Directory(directory) = &self.place {
            *locked(&directory.claim) = claim;
            locked(&directory.jsonl).take();
        }
        self.write_manifest(None)
    }

    /// Where the records lie: the directory asked for, or one inside it. None in memory.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory(directory) => Some(&directory.path),
            Place::Memory(_) => None,
        }
    }

    /// What a run in memory holds; empty for others.
    pub(crate) fn take_memory(&self) -> Vec<(TraceRecord, Option<Tensor>)> {
        match &self.place {
            Place::Memory(memory) => memory.take(),
            Place::Directory(_) => Vec::new(),
        }
    }

    /// Gives the record its repeat number and its place in the order, and keeps it; `values` is its
    /// tensor, where values were asked for. Values that cannot be kept do not take the record with
    /// them: the error comes back beside it.
    pub(crate) fn write(
        &self,
        record: &mut TraceRecord,
        values: Option<&Tensor>,
        format: Format,
    ) -> Result<Option<Error>, Error> {
        let (call, order) = locked(&self.calls).next(record);
        (record.call, record.order) = (call, Some(order));
        if call > 0 {
            record.name = format!("{}#{call}", record.name);
        }
        let lost_values = match &self.place {
            Place::Memory(memory) => memory.write(record, values).map(|()| None)?,
            Place::Directory(directory) => directory.write(record, values, format)?,
        };
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(lost_values)
    }

    /// Counts a record that could not be kept. True if it is the first of its cause.
    pub(crate) fn lose(&self, error: &Error) -> bool {
        self.losses.add(error)
    }

    /// An annotated function was called.
    pub(crate) fn reach(&self, site: &'static Site) {
        if site.reach(self.number) {
            locked(&self.reached).insert(address(site));
        }
    }

    fn coverage(&self) -> Coverage {
        let sites = sites();
        let reached = locked(&self.reached);
        let count = sites.len();
        Coverage {
            sites: count,
            unreached: sites.into_iter().filter(|site| !reached.contains(&address(site))).collect(),
        }
    }

    pub(crate) fn annotate(&self, key: &str, value: Annotation) {
        locked(&self.annotations).insert(key.to_owned(), value);
    }

    /// Writes `run.json`: with a time when the run ended cleanly, without while it goes on.
    pub(crate) fn write_manifest(&self, finished: Option<SystemTime>) -> Result<(), Error> {
        let Place::Directory(directory) = &self.place else { return Ok(()) };
        let _writing = locked(&directory.writing);
        let progress = Progress {
            started: self.started,
            finished,
            records: self.written.load(Ordering::Relaxed),
            losses: self.losses.list(),
            annotations: locked(&self.annotations).clone(),
            coverage: self.coverage(),
        };
        Manifest::new(&directory.config, progress).write(&directory.path)
    }
}

impl Directory {
    fn write(&self, record: &mut TraceRecord, values: Option<&Tensor>, format: Format) -> Result<Option<Error>, Error> {
        // An open file tells by itself that it was deleted; names may be somebody else's by now.
        if (format == Format::Files || values.is_some()) && !locked(&self.claim).holds() {
            return Err(Error::io("write", &self.path)(io::ErrorKind::NotFound.into()));
        }
        // Values first: a record never names a file that is not there.
        let mut lost_values = None;
        match values.map(|tensor| values::write(&self.path, record, tensor, &self.alike)) {
            Some(Ok(file)) => record.values = Some(file),
            Some(Err(error)) => lost_values = Some(error),
            None => {}
        }
        match format {
            Format::Files => files::write(&self.path, record, &self.alike)?,
            Format::Jsonl => self.jsonl()?.write(record)?,
        }
        Ok(lost_values)
    }

    fn jsonl(&self) -> Result<Arc<Jsonl>, Error> {
        let mut opened = locked(&self.jsonl);
        match &*opened {
            Some(jsonl) => Ok(Arc::clone(jsonl)),
            None => Ok(Arc::clone(opened.insert(Arc::new(Jsonl::open(&self.path)?)))),
        }
    }
}

/// Makes what was recorded so far readable by others: records already are, `run.json` is brought up
/// to date. Goes through all runs, and gives the first error.
pub(crate) fn flush_all() -> Result<(), Error> {
    let outcomes: Vec<_> = all().iter().filter(|run| run.holds()).map(|run| run.write_manifest(None)).collect();
    outcomes.into_iter().collect()
}

/// At the process's end. `clean`: main returned, or `process::exit` was called.
fn finish_all(clean: bool) {
    for run in all() {
        let Some(directory) = run.directory() else { continue };
        // A directory that was deleted is not made again.
        let told = run.holds() && run.write_manifest(clean.then(SystemTime::now)).map_err(|error| warn(&error)).is_ok();
        if !told {
            for loss in run.losses.list() {
                warn(format_args!("lost in {}: {loss}", directory.display()));
            }
        }
    }
}

fn all() -> Vec<Arc<Run>> {
    locked(&RUNS).iter().flat_map(HashMap::values).flatten().cloned().collect()
}
