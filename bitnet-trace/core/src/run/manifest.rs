//! Writes `run.json`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::claim::identity;
use super::config;
use super::directory::Directory;
use super::library::Library;
use crate::error::Error;
use crate::record::layout::{MANIFEST, SCHEMA, unfinished};
use crate::record::{Function, Loss, Manifest};

/// How many annotated functions the binary has, and which of them were not called.
pub(crate) struct Reached {
    pub(crate) sites: usize,
    pub(crate) unreached: Vec<Function>,
}

/// The fields of the manifest that change during a run.
pub(crate) struct Progress {
    pub(crate) started: SystemTime,
    /// Time when the run ended cleanly; `None` until then.
    pub(crate) finished: Option<SystemTime>,
    pub(crate) records: u64,
    pub(crate) losses: Vec<Loss>,
    pub(crate) annotations: BTreeMap<String, Value>,
    pub(crate) reached: Reached,
}

/// The manifest of a run of this process.
pub(crate) fn manifest(directory: &Directory, library: Library, progress: Progress) -> Manifest {
    let config = &directory.config;
    let Progress { started, finished, records, losses, annotations, reached } = progress;
    Manifest {
        schema: SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        program: std::env::args_os().next().map(|name| name.to_string_lossy().into_owned()),
        arguments: std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect(),
        process: std::process::id(),
        host: hostname::get().map(|name| name.to_string_lossy().into_owned()).ok(),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        process_identity: identity(&directory.path),
        rank: config::rank(),
        run: directory.id.clone(),
        features: (library.features)(),
        threads: (library.threads)(),
        format: config.format.name().to_owned(),
        formats: directory.formats().into_iter().map(str::to_owned).collect(),
        filter: config.filter.to_string(),
        capture: config.capture.to_string(),
        started: rfc3339(started),
        finished: finished.map(rfc3339),
        records,
        lost: losses.iter().map(|loss| loss.count).sum(),
        losses,
        annotations,
        sites: reached.sites,
        unreached: reached.unreached,
        complete: finished.is_some(),
    }
}

/// Replaces the file by a rename, so that a reader sees the old file or the new one, never a part of it.
pub(crate) fn write(manifest: &Manifest, directory: &Path) -> Result<(), Error> {
    let path = directory.join(MANIFEST);
    let unfinished = directory.join(unfinished(&manifest.run));
    serde_json::to_vec_pretty(manifest)
        .map_err(io::Error::from)
        .and_then(|json| {
            let mut file = create_unfinished(&unfinished)?;
            let written = file.write_all(&json).and_then(|()| fs::rename(&unfinished, &path));
            written.inspect_err(|_| drop(fs::remove_file(&unfinished)))
        })
        .map_err(Error::io("write", &path))
}

/// Creates the file, never through a link and never by overwriting. A file that an earlier, interrupted write of this
/// run left is removed first.
fn create_unfinished(path: &Path) -> io::Result<File> {
    match File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(path)?;
            File::create_new(path)
        }
        created => created,
    }
}

/// The last second that RFC 3339 can express.
const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);

/// Formats a time. A time before 1970 or after 9999, from a clock that is set wrong, becomes the nearest time in
/// between.
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
