//! `run.json`: what a run was.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use candle_core::utils;
use serde::Serialize;

use crate::annotation::Annotation;
use crate::config;
use crate::directory::identity;
use crate::error::Error;
use crate::losses::Loss;
use crate::paths::{MANIFEST, SCHEMA};
use crate::place::Directory;
use crate::site::Site;

/// The file's contents.
#[derive(Serialize)]
pub(crate) struct Manifest {
    schema: &'static str,
    version: &'static str,
    program: Option<String>,
    arguments: Vec<String>,
    process: u32,
    /// Tells the process from all others of its number, where the system has `/proc`.
    process_identity: Option<String>,
    /// Which of several processes, where a launcher says so.
    rank: Option<u64>,
    /// Tells the run from every other one.
    run: String,
    host: Option<String>,
    system: String,
    /// Of this crate, and of candle's those that change how sums are computed.
    features: Vec<&'static str>,
    /// What candle computes with.
    threads: usize,
    format: &'static str,
    /// All formats that records were written in: several sessions may share a run.
    formats: Vec<&'static str>,
    filter: String,
    capture: String,
    started: String,
    finished: Option<String>,
    records: u64,
    lost: u64,
    losses: Vec<Loss>,
    annotations: BTreeMap<String, Annotation>,
    /// Annotated functions in the binary.
    sites: usize,
    /// Those that were not called in this run, so far or, in a complete one, at all.
    unreached: Vec<Place>,
    complete: bool,
}

/// An annotated function in the source.
#[derive(Serialize)]
struct Place {
    stage: &'static str,
    function: &'static str,
    module: &'static str,
    file: &'static str,
    line: u32,
}

impl From<&'static Site> for Place {
    fn from(site: &'static Site) -> Self {
        let Site { stage, function, module, file, line, .. } = *site;
        Self { stage, function, module, file, line }
    }
}

/// The binary's annotated functions, and which of them were not called.
pub(crate) struct Coverage {
    pub(crate) sites: usize,
    pub(crate) unreached: Vec<&'static Site>,
}

/// What changes in the course of a run.
pub(crate) struct Progress {
    pub(crate) started: SystemTime,
    /// Set when the run ended cleanly.
    pub(crate) finished: Option<SystemTime>,
    pub(crate) records: u64,
    pub(crate) losses: Vec<Loss>,
    pub(crate) annotations: BTreeMap<String, Annotation>,
    pub(crate) coverage: Coverage,
}

impl Manifest {
    /// Of this process.
    pub(crate) fn new(directory: &Directory, progress: Progress) -> Self {
        let config = &directory.config;
        let Progress { started, finished, records, losses, annotations, coverage } = progress;
        Self {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            program: std::env::args_os().next().map(|name| name.to_string_lossy().into_owned()),
            arguments: std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect(),
            process: std::process::id(),
            host: hostname::get().map(|name| name.to_string_lossy().into_owned()).ok(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            process_identity: identity(&directory.path),
            rank: config::rank(),
            run: directory.id.clone(),
            features: features(),
            threads: *THREADS.get_or_init(utils::get_num_threads),
            format: config.format.name(),
            formats: directory.formats(),
            filter: config.filter.to_string(),
            capture: config.capture.to_string(),
            started: rfc3339(started),
            finished: finished.map(rfc3339),
            records,
            lost: losses.iter().map(|loss| loss.count).sum(),
            losses,
            annotations,
            sites: coverage.sites,
            unreached: coverage.unreached.into_iter().map(Place::from).collect(),
            complete: finished.is_some(),
        }
    }

    /// Replaces the file by one rename: a reader sees the old one or the new one, never a half.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(MANIFEST);
        let unfinished = directory.join(unfinished(&self.run));
        serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .and_then(|json| {
                let mut file = create_unfinished(&unfinished)?;
                let written = file.write_all(&json).and_then(|()| fs::rename(&unfinished, &path));
                written.inspect_err(|_| drop(fs::remove_file(&unfinished)))
            })
            .map_err(Error::io("write", &path))
    }
}

/// The file of a run that becomes its `run.json`: no other run, and nobody else, has one of that name.
pub(crate) fn unfinished(run: &str) -> String {
    format!(".run.json.{run}.new")
}

/// Never through a link, never over a file that is there. What an earlier write of this run left is
/// taken away.
fn create_unfinished(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            File::create_new(path)
        }
        created => created,
    }
}

/// Asked once: candle looks at the environment and at the processors.
static THREADS: OnceLock<usize> = OnceLock::new();

fn features() -> Vec<&'static str> {
    let features = [
        ("trace", cfg!(feature = "trace")),
        ("read", cfg!(feature = "read")),
        ("cli", cfg!(feature = "cli")),
        ("candle-core/accelerate", utils::has_accelerate()),
        ("candle-core/cuda", utils::cuda_is_available()),
        ("candle-core/metal", utils::metal_is_available()),
        ("candle-core/mkl", utils::has_mkl()),
    ];
    features.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect()
}

/// The last second that the format has.
const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);

/// A clock that is set to before 1970 or after 9999 gives the nearest time that the format has.
fn rfc3339(time: SystemTime) -> String {
    let first = SystemTime::UNIX_EPOCH;
    let last = first.checked_add(YEAR_9999).unwrap_or(first);
    humantime::format_rfc3339_millis(time.clamp(first, last)).to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{YEAR_9999, rfc3339};

    #[test]
    fn clocks_that_are_set_wrong() {
        let epoch = SystemTime::UNIX_EPOCH;
        assert_eq!(rfc3339(epoch - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(epoch + YEAR_9999 + Duration::from_secs(1)), "9999-12-31T23:59:59.000Z");
    }
}
