//! A run's directory: what is open in it, and how a record gets there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use super::claim::{Claim, holds_run, reclaim};
use super::config::{Config, Format};
use super::own::Written;
use crate::digest::TensorView;
use crate::error::Error;
use crate::record::layout::MANIFEST;
use crate::record::TraceRecord;
use crate::failing::locked;
use crate::sink::{Alike, Jsonl, files, values};

pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// Tells the run from every other one, in `run.json`.
    pub(crate) id: String,
    /// The settings of whoever began the run, for `run.json`.
    pub(crate) config: Config,
    grip: Mutex<Grip>,
    /// Made by the first record of that format.
    jsonl: Mutex<Option<Arc<Jsonl>>>,
    alike: Alike,
    /// A bit for each format that records were written in.
    formats: AtomicU8,
}

/// The claim, as long as somebody records: sessions that finished hold no file open.
struct Grip {
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
            grip: Mutex::new(Grip { users: 1, claim: Some(claim) }),
            jsonl: Mutex::default(),
            alike: Alike::default(),
        }
    }

    /// One more who records. False if the directory is not open, or no longer this run's.
    pub(crate) fn join(&self) -> bool {
        let mut grip = locked(&self.grip);
        let holds = grip.claim.as_ref().is_some_and(Claim::holds);
        grip.users += usize::from(holds);
        holds
    }

    /// One more who records, of those that are there already.
    pub(crate) fn join_others(&self) {
        locked(&self.grip).users += 1;
    }

    /// Takes up the run that this process left here. False if it is not there any more.
    pub(crate) fn join_again(&self, requested: &Path) -> Result<bool, Error> {
        let claim = reclaim(requested, &self.path, &self.id)?;
        Ok(claim.map(|claim| self.resume(claim)).is_some())
    }

    /// Goes on in a directory that was deleted and is claimed again.
    pub(crate) fn join_anew(&self, claim: Claim) {
        *locked(&self.jsonl) = None;
        self.resume(claim);
    }

    fn resume(&self, claim: Claim) {
        let mut grip = locked(&self.grip);
        grip.claim = Some(claim);
        grip.users += 1;
    }

    /// One who records no more. After the last of them no file is open.
    pub(crate) fn leave(&self) {
        let mut grip = locked(&self.grip);
        grip.users = grip.users.saturating_sub(1);
        if grip.users == 0 {
            grip.claim = None;
            if let Some(jsonl) = &*locked(&self.jsonl) {
                jsonl.close();
            }
        }
    }

    /// Whether somebody records.
    pub(crate) fn is_open(&self) -> bool {
        locked(&self.grip).claim.is_some()
    }

    /// Whether the directory is still this run's.
    pub(crate) fn is_ours(&self) -> bool {
        match &locked(&self.grip).claim {
            Some(claim) => claim.holds(),
            None => holds_run(&self.path, &self.id),
        }
    }

    /// Refuses to write a `run.json` where the directory, or the file, is not this run's any more.
    pub(crate) fn check_manifest(&self) -> Result<(), Error> {
        let path = self.path.join(MANIFEST);
        if !self.is_ours() {
            return Err(Error::io("write", &path)(io::ErrorKind::NotFound.into()));
        }
        if path.symlink_metadata().is_ok() && !holds_run(&self.path, &self.id) {
            return Err(Error::io("write", &path)(io::Error::other("another program wrote one there")));
        }
        Ok(())
    }

    /// Notes that a record of this format is written. True for the first.
    pub(crate) fn begins(&self, format: Format) -> bool {
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

    /// Writes a record, and its values before it: a record never names a file that is not there.
    /// Values and rows that cannot be kept do not take the record with them: the errors come back beside it.
    pub(crate) fn write(
        &self,
        record: &mut TraceRecord,
        values: Option<&TensorView<'_>>,
        format: Format,
    ) -> Result<(Written, Vec<Error>), Error> {
        // An open file tells by itself that it was deleted; names may be somebody else's by now.
        let by_name = match format {
            Format::Files => true,
            Format::Jsonl => values.is_some() || !locked(&self.jsonl).as_ref().is_some_and(|jsonl| jsonl.is_open()),
        };
        if by_name && !locked(&self.grip).claim.as_ref().is_some_and(Claim::holds) {
            return Err(Error::io("write", &self.path)(io::ErrorKind::NotFound.into()));
        }
        let lost_rows = drop_rows(&self.path, record);
        let lost_values = match values.map(|tensor| values::write(&self.path, record, tensor, &self.alike)) {
            Some(Ok(file)) => {
                record.values = Some(file);
                None
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        let written = match format {
            Format::Files => files::write(&self.path, record, &self.alike).map(Written::File),
            Format::Jsonl => self.jsonl().and_then(|jsonl| jsonl.write(record)).map(Written::Line),
        };
        if let (Err(_), Some(file)) = (&written, &record.values) {
            // Nobody would know whose they are.
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

/// The hashes of the rows of one record: with more of them it is larger than what readers take.
const MOST_ROWS: usize = 1_000_000;

/// Takes the rows out of a record that has too many, and says so.
fn drop_rows(directory: &Path, record: &mut TraceRecord) -> Option<Error> {
    let rows = record.rows.take_if(|rows| rows.len() > MOST_ROWS)?;
    let many = format!("{} has {} rows; of at most {MOST_ROWS} hashes are kept", record.name, rows.len());
    Some(Error::io("keep the hashes of rows in", directory)(io::Error::new(io::ErrorKind::FileTooLarge, many)))
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

    /// A directory where the values cannot be written: a file has the name of theirs.
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
            // The first is smaller than what readers take.
            let (mut read, mut problems) = (0, 0);
            pieces(&directory, &mut |piece| match piece.and_then(|piece| piece.parse::<TraceRecord>()) {
                Ok(_) => read += 1,
                Err(_) => problems += 1,
            });
            assert_eq!((read, problems), (2, 0));
        }
    }
}
