//! Finds the files of a directory that the run in it wrote. Only these are ever moved or removed.
//!
//! The name of a file proves nothing; its content does. A `.trace` file belongs to the run if it holds a record that
//! has a place in the order, and if the run would give that record this file name. `trace.jsonl` belongs to it if it
//! begins with such a record, and captured values if one of these records names them.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io::{BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::is_ours;
use crate::error::Error;
use crate::record::TraceRecord;
use crate::record::layout::{JSONL, MANIFEST, entries, is_directory, is_own_process_directory, is_record, unfinished};
use crate::serial::impl_serde;
use crate::sink::file_stem;
use crate::sink::values;
use crate::trace::pieces::{manifest_of, open, pieces, whole};

/// The fields of a record that are needed here: `order` proves that a run wrote it.
struct OwnedRecord {
    #[allow(dead_code)]
    order: u64,
    values: Option<String>,
}

impl_serde! { Deserialize for OwnedRecord { order, values [default] } }

/// The files of the run in `directory` and in the directories of its further processes, relative to `directory`. They
/// are in an order in which they may be moved: a `run.json` comes after the files whose ownership it proves.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    for path in entries(directory)? {
        if is_own_process_directory(&path) && is_ours(&path) {
            let name = path.file_name().unwrap_or_default();
            files.extend(of_one_process(&path)?.into_iter().map(|file| Path::new(name).join(file)));
        }
    }
    files.append(&mut of_one_process(directory)?);
    Ok(files)
}

fn of_one_process(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let run = FormerRun::read(directory);
    let mut records = Vec::new();
    let mut values = BTreeSet::new();
    let has_values = is_directory(&directory.join(values::DIRECTORY));
    for path in entries(directory)? {
        if run.wrote("files") && is_record(&path) && is_file(&path).is_some() && run.owns_record(&path, &mut values) {
            records.push(PathBuf::from(path.file_name().unwrap_or_default()));
        }
    }
    let lines = directory.join(JSONL);
    if run.wrote("jsonl") && is_file(&lines).is_some() && run.owns_lines(&lines) {
        if has_values {
            add_values_of_lines(&lines, &mut values);
        }
        records.push(PathBuf::from(JSONL));
    }
    let is_there = |file: &PathBuf| has_values && is_file(&directory.join(file)).is_some();
    let mut files: Vec<_> = values.into_iter().filter(is_there).collect();
    files.append(&mut records);
    files.extend(run.unfinished().into_iter().filter(|file| is_file(&directory.join(file)).is_some()));
    files.push(PathBuf::from(MANIFEST));
    Ok(files)
}

/// The facts in the `run.json` of the run.
struct FormerRun {
    manifest: Value,
    started: Option<SystemTime>,
}

impl FormerRun {
    fn read(directory: &Path) -> Self {
        let manifest = manifest_of(directory);
        let started = manifest["started"].as_str().and_then(|time| humantime::parse_rfc3339(time).ok());
        Self { manifest, started }
    }

    /// Whether the run may have written records in a format. Runs of the first version do not list their formats.
    fn wrote(&self, format: &str) -> bool {
        self.manifest["formats"].as_array().is_none_or(|formats| formats.iter().any(|written| written == format))
    }

    /// The name of a `run.json` that the process may have left unfinished when it was killed.
    fn unfinished(&self) -> Option<PathBuf> {
        let id = self.manifest["run"].as_str()?;
        // The id must be a number: it could hold a path.
        id.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| unfinished(id).into())
    }

    /// Whether a `.trace` file belongs to the run; adds the values that its record names. A file that cannot be read
    /// does not belong to it.
    fn owns_record(&self, path: &Path, values: &mut BTreeSet<PathBuf>) -> bool {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let Ok(json) = whole(path) else { return false };
        let Ok(record) = serde_json::from_slice::<TraceRecord>(&json) else {
            return self.left_torn(path, &json, stem);
        };
        if record.order.is_none() || !is_stem_of(stem, &record.name) {
            return false;
        }
        values.extend(record.values.as_deref().and_then(inside_values));
        true
    }

    /// Whether `trace.jsonl` belongs to the run.
    fn owns_lines(&self, path: &Path) -> bool {
        let mut first = Vec::new();
        let read =
            open(path).is_ok_and(|file| BufReader::new(file).take(FIRST_LINE).read_until(b'\n', &mut first).is_ok());
        if !read {
            return false;
        }
        let is_record = serde_json::from_slice::<TraceRecord>(&first).is_ok_and(|record| record.order.is_some());
        // The process was killed before the first line was complete.
        let is_torn = first.is_empty() || first.starts_with(b"{\"name\":") && !first.ends_with(b"\n");
        is_record || is_torn && self.was_made_by(path)
    }

    /// Whether a file that is not a record is the one that the run's process was writing when it was killed: it is
    /// empty, or it is the beginning of a record.
    fn left_torn(&self, path: &Path, json: &[u8], stem: &str) -> bool {
        let name_in_file = || {
            let text = String::from_utf8_lossy(json);
            let name = text.strip_prefix("{\n  \"name\": ")?;
            serde_json::Deserializer::from_str(name).into_iter::<String>().next()?.ok()
        };
        self.was_made_by(path) && (json.is_empty() || name_in_file().is_some_and(|name| is_stem_of(stem, &name)))
    }

    /// Whether the run never ended cleanly and the file was written after it began.
    fn was_made_by(&self, path: &Path) -> bool {
        let written = is_file(path).and_then(|file| file.modified().ok());
        let (Some(started), Some(written)) = (self.started, written) else { return false };
        self.manifest["complete"] != true && is_since(written, started)
    }
}

/// Longest first line of `trace.jsonl` that is read, in bytes.
const FIRST_LINE: u64 = 64 * 1024 * 1024;

/// The coarsest resolution of a file system's times: FAT keeps them in steps of two seconds.
const CLOCK: Duration = Duration::from_secs(2);

/// Whether a file was not written before a run started, within the resolution of file systems. A time so late that the
/// sum overflows is after every start.
fn is_since(written: SystemTime, started: SystemTime) -> bool {
    written.checked_add(CLOCK).is_none_or(|written| written >= started)
}

/// The metadata of a regular file; `None` for a link to one, as a run makes no links.
fn is_file(path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file)
}

/// Whether the run would use this file stem for a record of this name: `q`, or `q~2` if `q` was taken.
fn is_stem_of(stem: &str, name: &str) -> bool {
    let first = file_stem(name);
    stem == first
        || stem
            .strip_prefix(first.as_str())
            .and_then(|rest| rest.strip_prefix('~'))
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Adds the files of values that the lines name.
fn add_values_of_lines(lines: &Path, values: &mut BTreeSet<PathBuf>) {
    pieces(lines, &mut |piece| {
        if let Ok(record) = piece.and_then(|piece| piece.parse::<OwnedRecord>()) {
            values.extend(record.values.as_deref().and_then(inside_values));
        }
    });
}

/// The path, if it is one that a run writes: a file in `values/`.
fn inside_values(named: &str) -> Option<PathBuf> {
    let path = PathBuf::from(named);
    let mut parts = path.components();
    let directory = parts.next()? == Component::Normal(values::DIRECTORY.as_ref());
    let file = matches!(parts.next()?, Component::Normal(_));
    (directory && file && parts.next().is_none()).then_some(path)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{inside_values, is_since, is_stem_of};

    #[test]
    fn times_of_files() {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert!(is_since(started - Duration::from_secs(2), started));
        assert!(!is_since(started - Duration::from_secs(3), started));
        // The latest time that Linux can represent; other systems may not have one so late.
        let last = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(i64::MAX.unsigned_abs()));
        assert!(last.is_none_or(|last| is_since(last, started)));
    }

    #[test]
    fn names_of_files() {
        for (stem, name, expected) in [
            ("t0_q", "t0/q", true),
            ("t0_q~2", "t0/q", true),
            ("t0_q~", "t0/q", false),
            ("t0_q~x", "t0/q", false),
            ("golden", "t0/q", false),
        ] {
            assert_eq!(is_stem_of(stem, name), expected, "{stem} {name}");
        }
        for (named, expected) in [
            ("values/q.safetensors", true),
            ("values/../q", false),
            ("/values/q", false),
            ("q", false),
            ("values/a/q", false),
        ] {
            assert_eq!(inside_values(named).is_some(), expected, "{named}");
        }
    }
}
