//! One run: everything that one process records into one place, from its first record to its exit.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use candle_core::Tensor;
use serde::Serialize;

use crate::annotation::Annotation;
use crate::config::{Config, Format};
use crate::directory::{Claim, MANIFEST, claim};
use crate::error::Error;
use crate::exit;
use crate::losses::{Loss, Losses, warn};
use crate::record::TraceRecord;
use crate::sink::{Jsonl, Memory, files, values};

/// What every writer to one place shares: the execution order, the repeat numbers, the losses.
pub(crate) struct Run {
    place: Place,
    order: AtomicU64,
    written: AtomicU64,
    /// How often a record was made, by hash of what tells records apart.
    calls: Mutex<HashMap<u64, usize, BuildHasherDefault<Hashed>>>,
    losses: Losses,
    annotations: Mutex<BTreeMap<String, Annotation>>,
    started: SystemTime,
    /// Held for the directory's sake; none in memory.
    claim: Mutex<Option<Claim>>,
    /// Whether a `TraceSession` records here now.
    pub(crate) in_session: AtomicBool,
}

/// The hash of a key that is one already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only `u64` keys are hashed");
    }
}

/// Where records are kept.
enum Place {
    Directory {
        path: PathBuf,
        /// Opened by the first record of that format.
        jsonl: Mutex<Option<Arc<Jsonl>>>,
        /// The settings of whoever began the run, for `run.json`.
        config: Box<Config>,
    },
    Memory(Memory),
}

/// The runs of this process by the directory that was asked for.
static RUNS: Mutex<Option<HashMap<PathBuf, Arc<Run>>>> = Mutex::new(None);

impl Run {
    /// The run of this process in `directory`, begun if there is none. The directory is created
    /// with its parents, also when it was deleted since.
    pub(crate) fn in_directory(directory: &Path, config: &Config) -> Result<Arc<Self>, Error> {
        fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
        let key = directory.canonicalize().map_err(Error::io("read", directory))?;
        let mut runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = runs.get_or_insert_default();
        if let Some(run) = runs.get(&key) {
            run.revive()?;
            return Ok(Arc::clone(run));
        }
        let claim = claim(&key)?;
        let place = Place::Directory {
            path: claim.directory.clone(),
            jsonl: Mutex::default(),
            config: Box::new(config.clone()),
        };
        let run = Arc::new(Self::new(place, Some(claim)));
        run.write_manifest(None)?;
        runs.insert(key, Arc::clone(&run));
        exit::at_exit(finish_all);
        Ok(run)
    }

    /// A run that leaves nothing behind.
    pub(crate) fn in_memory() -> Arc<Self> {
        Arc::new(Self::new(Place::Memory(Memory::default()), None))
    }

    fn new(place: Place, claim: Option<Claim>) -> Self {
        Self {
            place,
            order: AtomicU64::new(0),
            written: AtomicU64::new(0),
            calls: Mutex::default(),
            losses: Losses::default(),
            annotations: Mutex::default(),
            started: SystemTime::now(),
            claim: Mutex::new(claim),
            in_session: AtomicBool::new(false),
        }
    }

    /// Claims the directory again if it was deleted.
    fn revive(&self) -> Result<(), Error> {
        if let Some(directory) = self.directory()
            && !directory.join(MANIFEST).exists()
        {
            let mut held = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
            fs::create_dir_all(directory).map_err(Error::io("create", directory))?;
            *held = None;
            *held = Some(claim(directory)?);
            drop(held);
            if let Place::Directory { jsonl, .. } = &self.place {
                jsonl.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            self.write_manifest(None)?;
        }
        Ok(())
    }

    /// Where the records lie: the directory asked for, or one inside it. None in memory.
    pub(crate) fn directory(&self) -> Option<&Path> {
        match &self.place {
            Place::Directory { path, .. } => Some(path),
            Place::Memory(_) => None,
        }
    }

    /// What a run in memory holds; empty for others.
    pub(crate) fn take_memory(&self) -> Vec<(TraceRecord, Option<Tensor>)> {
        match &self.place {
            Place::Memory(memory) => memory.take(),
            Place::Directory { .. } => Vec::new(),
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
        record.call = self.count_call(record);
        if record.call > 0 {
            record.name = format!("{}#{}", record.name, record.call);
        }
        record.order = Some(self.order.fetch_add(1, Ordering::Relaxed));
        let mut lost_values = None;
        match &self.place {
            Place::Memory(memory) => memory.write(record, values)?,
            Place::Directory { path, jsonl, .. } => {
                // Values first: a record never names a file that is not there.
                if let Some(tensor) = values {
                    match values::write(path, record, tensor) {
                        Ok(file) => record.values = Some(file),
                        Err(error) => lost_values = Some(error),
                    }
                }
                match format {
                    Format::Files => files::write(path, record)?,
                    Format::Jsonl => Self::jsonl(path, jsonl)?.write(record)?,
                }
            }
        }
        self.written.fetch_add(1, Ordering::Relaxed);
        Ok(lost_values)
    }

    fn jsonl(directory: &Path, jsonl: &Mutex<Option<Arc<Jsonl>>>) -> Result<Arc<Jsonl>, Error> {
        let mut opened = jsonl.lock().unwrap_or_else(PoisonError::into_inner);
        match &*opened {
            Some(jsonl) => Ok(Arc::clone(jsonl)),
            None => Ok(Arc::clone(opened.insert(Arc::new(Jsonl::open(directory)?)))),
        }
    }

    fn count_call(&self, record: &TraceRecord) -> usize {
        let mut hasher = DefaultHasher::new();
        (&record.name, record.seq_index, record.layer_idx, &record.stage, &record.output, &record.io).hash(&mut hasher);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = calls.entry(hasher.finish()).or_insert(0);
        *calls += 1;
        *calls - 1
    }

    /// Counts a record that could not be kept. True if it is the first of its cause.
    pub(crate) fn lose(&self, error: &Error) -> bool {
        self.losses.add(error)
    }

    pub(crate) fn annotate(&self, key: &str, value: Annotation) {
        self.annotations.lock().unwrap_or_else(PoisonError::into_inner).insert(key.to_owned(), value);
    }

    /// Writes `run.json`: with a time when the run ended cleanly, without while it goes on.
    pub(crate) fn write_manifest(&self, finished: Option<SystemTime>) -> Result<(), Error> {
        let Place::Directory { path: directory, config, .. } = &self.place else { return Ok(()) };
        let losses = self.losses.list();
        let manifest = Manifest {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            program: std::env::args_os().next().map(|name| name.to_string_lossy().into_owned()),
            arguments: std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect(),
            process: std::process::id(),
            host: hostname::get().map(|name| name.to_string_lossy().into_owned()).ok(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            features: &["trace"],
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            format: config.format.name(),
            filter: config.filter.to_string(),
            capture: config.capture.to_string(),
            started: rfc3339(self.started),
            finished: finished.map(rfc3339),
            records: self.written.load(Ordering::Relaxed),
            lost: losses.iter().map(|loss| loss.count).sum(),
            losses,
            annotations: self.annotations.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            complete: finished.is_some(),
        };
        let path = directory.join(MANIFEST);
        // Replaced by one rename: a reader sees the old one or the new one, never a half.
        let unfinished = directory.join(".run.json.new");
        serde_json::to_vec_pretty(&manifest)
            .map_err(std::io::Error::from)
            .and_then(|json| fs::write(&unfinished, json))
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(Error::io("write", &path))
    }
}

/// Version of the record and directory format.
const SCHEMA: &str = "bitnet-trace/1";

/// `run.json`.
#[derive(Serialize)]
struct Manifest<'a> {
    schema: &'a str,
    version: &'a str,
    program: Option<String>,
    arguments: Vec<String>,
    process: u32,
    host: Option<String>,
    system: String,
    features: &'a [&'a str],
    threads: usize,
    format: &'a str,
    filter: String,
    capture: String,
    started: String,
    finished: Option<String>,
    records: u64,
    lost: u64,
    losses: Vec<Loss>,
    annotations: BTreeMap<String, Annotation>,
    complete: bool,
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// Makes what was recorded so far readable by others: records already are, `run.json` is brought up
/// to date.
pub(crate) fn flush_all() -> Result<(), Error> {
    for run in all() {
        run.write_manifest(None)?;
    }
    Ok(())
}

/// At the process's end. `clean`: main returned, or `process::exit` was called.
fn finish_all(clean: bool) {
    for run in all() {
        let Some(directory) = run.directory() else { continue };
        // A directory that was deleted is not made again.
        let told = if directory.exists() {
            run.write_manifest(clean.then(SystemTime::now)).map_err(|error| warn(&error)).is_ok()
        } else {
            false
        };
        if !told {
            for loss in run.losses.list() {
                warn(format_args!("lost in {}: {loss}", directory.display()));
            }
        }
    }
}

fn all() -> Vec<Arc<Run>> {
    let runs = RUNS.lock().unwrap_or_else(PoisonError::into_inner);
    runs.iter().flat_map(HashMap::values).cloned().collect()
}
