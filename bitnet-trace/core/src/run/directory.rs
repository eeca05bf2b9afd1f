//! The directory of a run: which files are open in it, who uses it, and how a record is written to it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::claim::{Claim, holds_run, reclaim};
use super::config::{Config, Format};
use super::own::RecordPlace;
use crate::digest::TensorView;
use crate::error::Error;
use crate::failing::locked;
use crate::record::TraceRecord;
use crate::record::layout::MANIFEST;
use crate::sink::{Jsonl, StemCounts, files, values};

pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// Id of the run in `run.json`, different for every run.
    pub(crate) id: String,
    /// The settings of the session that began the run, for `run.json`.
    pub(crate) config: Config,
    usage: Mutex<Usage>,
    /// Created by the first record of format `jsonl`.
    jsonl: Mutex<Option<Arc<Jsonl>>>,
    stem_counts: StemCounts,
    /// The formats that records were written in, one bit each.
    formats: AtomicU8,
}

/// Who uses the directory. The claim is kept only while somebody records, so that finished sessions keep no file open.
struct Usage {
    /// Number of sessions that record here.
    users: usize,
    claim: Option<Claim>,
}

impl Directory {
    pub(crate) fn new(claim: Claim, id: String, config: Config) -> Self {
        Self {
            path: claim.directory.clone(),
            id,
            formats: AtomicU8::new(bit(config.format)),
            config,
            usage: Mutex::new(Usage { users: 1, claim: Some(claim) }),
            jsonl: Mutex::default(),
            stem_counts: StemCounts::default(),
        }
    }

    /// Adds a user. Returns false if the directory is not open or no longer belongs to this run.
    pub(crate) fn join(&self) -> bool {
        let mut usage = locked(&self.usage);
        let holds = usage.claim.as_ref().is_some_and(Claim::holds);
        usage.users += usize::from(holds);
        holds
    }

    /// Adds a user to a directory that is open.
    pub(crate) fn add_user(&self) {
        locked(&self.usage).users += 1;
    }

    /// Claims the directory again after all users left, and adds a user. Returns false if the run is no longer there.
    pub(crate) fn join_reclaimed(&self, requested: &Path) -> Result<bool, Error> {
        let claim = reclaim(requested, &self.path, &self.id)?;
        Ok(claim.map(|claim| self.resume(claim)).is_some())
    }

    /// Continues the run in a directory that was deleted and claimed again, and adds a user.
    pub(crate) fn join_recreated(&self, claim: Claim) {
        *locked(&self.jsonl) = None;
        self.resume(claim);
    }

    fn resume(&self, claim: Claim) {
        let mut usage = locked(&self.usage);
        usage.claim = Some(claim);
        usage.users += 1;
    }

    /// Removes a user. When the last one leaves, all files are closed.
    pub(crate) fn leave(&self) {
        let mut usage = locked(&self.usage);
        usage.users = usage.users.saturating_sub(1);
        if usage.users == 0 {
            usage.claim = None;
            if let Some(jsonl) = &*locked(&self.jsonl) {
                jsonl.close();
            }
        }
    }

    /// Whether the directory has users.
    pub(crate) fn is_open(&self) -> bool {
        locked(&self.usage).claim.is_some()
    }

    /// Whether the directory still belongs to this run.
    pub(crate) fn is_ours(&self) -> bool {
        match &locked(&self.usage).claim {
            Some(claim) => claim.holds(),
            None => holds_run(&self.path, &self.id),
        }
    }

    /// Fails if `run.json` must not be written, because the directory or the file no longer belongs to this run.
    pub(crate) fn check_manifest(&self) -> Result<(), Error> {
        let path = self.path.join(MANIFEST);
        if !self.is_ours() {
            return Err(Error::io("write", &path)(io::ErrorKind::NotFound.into()));
        }
        if path.symlink_metadata().is_ok() && !holds_run(&self.path, &self.id) {
            return Err(Error::io("write", &path)(io::Error::other("another program wrote this file; move it away")));
        }
        Ok(())
    }

    /// Notes that a record of this format is written. Returns whether it is the first.
    pub(crate) fn is_first_of(&self, format: Format) -> bool {
        self.formats.load(Ordering::Relaxed) & bit(format) == 0
            && self.formats.fetch_or(bit(format), Ordering::Relaxed) & bit(format) == 0
    }

    /// The formats that records were written in.
    pub(crate) fn formats(&self) -> Vec<&'static str> {
        let formats = self.formats.load(Ordering::Relaxed);
        [Format::Files, Format::Jsonl]
            .into_iter()
            .filter(|format| formats & bit(*format) != 0)
            .map(Format::name)
            .collect()
    }

    /// Writes a record. Its values are written before it, so that a record never names a file that does not exist.
    /// If only values or row hashes cannot be written, the record is kept without them, and the errors are in
    /// the list that is returned.
    pub(crate) fn write(
        &self,
        record: &mut TraceRecord,
        values: Option<&TensorView<'_>>,
        format: Format,
    ) -> Result<(RecordPlace, Vec<Error>), Error> {
        // Files that are opened by name may by now lie in another run's directory. An open `trace.jsonl` checks for
        // itself whether it was deleted.
        let opens_by_name = match format {
            Format::Files => true,
            Format::Jsonl => values.is_some() || !locked(&self.jsonl).as_ref().is_some_and(|jsonl| jsonl.is_open()),
        };
        if opens_by_name && !locked(&self.usage).claim.as_ref().is_some_and(Claim::holds) {
            return Err(Error::io("write", &self.path)(io::ErrorKind::NotFound.into()));
        }
        let lost_rows = drop_rows(&self.path, record);
        let lost_values = match values.map(|tensor| values::write(&self.path, record, tensor, &self.stem_counts)) {
            Some(Ok(file)) => {
                record.values = Some(file);
                None
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        let written = match format {
            Format::Files => files::write(&self.path, record, &self.stem_counts).map(RecordPlace::File),
            Format::Jsonl => self.jsonl().and_then(|jsonl| jsonl.write(record)).map(RecordPlace::Line),
        };
        if let (Err(_), Some(file)) = (&written, &record.values) {
            // No record names the values, so nobody could use them.
            let _ = std::fs::remove_file(self.path.join(file));
        }
        Ok((written?, lost_rows.into_iter().chain(lost_values).collect()))
    }

    fn jsonl(&self) -> Result<Arc<Jsonl>, Error> {
        let mut made = locked(&self.jsonl);
        match &*made {
            Some(jsonl) => Ok(Arc::clone(jsonl)),
            None => Ok(Arc::clone(made.insert(Arc::new(Jsonl::create(&self.path)?)))),
        }
    }
}

/// Largest number of row hashes in a record. With more of them it would exceed the size that readers accept.
const MOST_ROWS: usize = 1_000_000;

/// Removes the row hashes of a record that has too many, and returns the error that says so.
fn drop_rows(directory: &Path, record: &mut TraceRecord) -> Option<Error> {
    let rows = record.rows.take_if(|rows| rows.len() > MOST_ROWS)?;
    let many = format!(
        "{} has {} rows, more than {MOST_ROWS}; the record is kept without row hashes",
        record.name,
        rows.len()
    );
    Some(Error::io("write row hashes to", directory)(io::Error::new(io::ErrorKind::FileTooLarge, many)))
}

fn bit(format: Format) -> u8 {
    match format {
        Format::Files => 1,
        Format::Jsonl => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::MOST_ROWS;
    use crate::digest::{Elements, TensorView};
    use crate::record::TraceRecord;
    use crate::run::config::{Config, Format};
    use crate::run::{Library, Plain, Run};
    use crate::trace::pieces::pieces;

    fn record() -> TraceRecord {
        let json = r#"{"name":"x","shape":[2],"dtype":"F32","blake3":"00","rms":1,"num_elements":2}"#;
        serde_json::from_str(json).expect("a record")
    }

    /// The values cannot be written because a file has the name of their directory.
    #[test]
    fn values_that_cannot_be_written_keep_the_record() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let view = TensorView::contiguous(Elements::F32(&[1.0, 2.0]), &[2]).expect("two elements");
        for format in [Format::Files, Format::Jsonl] {
            let directory = dir.path().join(format.name());
            std::fs::create_dir(&directory).expect("made");
            std::fs::write(directory.join("values"), "somebody else's").expect("written");
            let hold = Run::in_directory(&directory, &Config::default(), Library::of::<Plain>()).expect("a run");
            let mut record = record();
            let (_, lost) = hold.run().write(&mut record, Some(&view), format).expect("the record is kept");
            assert!(matches!(&lost[..], [crate::Error::Io { .. }]), "{lost:?}");
            assert_eq!((record.values, record.order), (None, Some(0)));
        }
    }

    #[test]
    fn a_record_of_too_many_rows_is_kept_without_them() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for format in [Format::Files, Format::Jsonl] {
            let directory = dir.path().join(format.name());
            let hold = Run::in_directory(&directory, &Config::default(), Library::of::<Plain>()).expect("a run");
            let row = "0".repeat(16);
            for (rows, losses) in [(MOST_ROWS, 0), (MOST_ROWS + 1, 1)] {
                let mut record = TraceRecord { rows: Some(vec![row.clone(); rows]), ..record() };
                let (_, lost) = hold.run().write(&mut record, None, format).expect("the record is kept");
                assert_eq!((lost.len(), record.rows.is_none()), (losses, losses == 1), "{lost:?}");
            }
            // The first record, with as many rows as allowed, is small enough for readers.
            let (mut read, mut problems) = (0, 0);
            pieces(&directory, &mut |piece| match piece.and_then(|piece| piece.parse::<TraceRecord>()) {
                Ok(_) => read += 1,
                Err(_) => problems += 1,
            });
            assert_eq!((read, problems), (2, 0));
        }
    }
}
