//! One side of a comparison: what its records are aligned by, and where the rest of them is.
//!
//! Only the key, the digest and the place in the file are kept of a record. Statistics, sketch and values are read
//! again for the pairs that are not identical.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::record::TraceRecord;
use crate::trace::Trace;
use crate::trace::pieces::{self, Piece, open, pieces, process_directories};
use crate::trace::values::{Values, read_values};

use super::builder::Builder;
use super::entry::{Entry, Location};
use super::head::Head;
use super::map::NameMap;
use super::rename::Sorted;
use super::scan;

/// The entries of a side, and access to their records.
pub(crate) struct Side<'a> {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<String>,
    /// The entries that the map leaves out.
    pub(crate) left_out: Vec<Entry>,
    source: RecordSource<'a>,
}

/// Where the whole records are.
enum RecordSource<'a> {
    Trace(&'a Trace),
    Files(Files),
}

/// Record files, of which single records are read again.
#[derive(Default)]
struct Files {
    paths: Vec<PathBuf>,
    /// The file that was read last, which stays open.
    opened: RefCell<Option<(u32, File)>>,
}

impl<'a> Side<'a> {
    /// The side of a trace whose records are in memory.
    pub(crate) fn of(trace: &'a Trace, map: &NameMap) -> Self {
        let mut builder = Builder::new(map);
        for (index, record) in trace.records().iter().enumerate() {
            let place = Location { file: 0, length: 0, at: index as u64 };
            builder.add(&Head::from(record), number(trace.process_of(index)), place);
        }
        trace.problems().iter().for_each(|problem| builder.problem(problem));
        Self::built(builder, RecordSource::Trace(trace))
    }

    fn built(builder: Builder<'_>, source: RecordSource<'a>) -> Self {
        let (Sorted { entries, left_out }, problems) = builder.finish();
        Self { entries, problems, left_out, source }
    }

    /// Whether the values of the entry were captured.
    pub(crate) fn has_values(&self, entry: &Entry) -> bool {
        match &self.source {
            RecordSource::Trace(trace) => trace.has_values(&trace.records()[index(entry.place.at)]),
            RecordSource::Files(files) => files.record(entry.place).is_ok_and(|record| record.values.is_some()),
        }
    }

    /// The whole record of the entry.
    pub(crate) fn record(&self, entry: &Entry) -> Result<Cow<'_, TraceRecord>, Error> {
        match &self.source {
            RecordSource::Trace(trace) => Ok(Cow::Borrowed(&trace.records()[index(entry.place.at)])),
            RecordSource::Files(files) => Ok(Cow::Owned(files.record(entry.place)?)),
        }
    }

    /// The captured values of the entry, as they were recorded.
    pub(crate) fn captured(&self, entry: &Entry, record: &TraceRecord) -> Result<Option<Cow<'_, Values>>, Error> {
        match &self.source {
            RecordSource::Trace(trace) => trace.captured(record),
            RecordSource::Files(files) => {
                // The paths of values are relative to the directory of the record.
                let directory = files.path(entry.place).parent().unwrap_or(Path::new(""));
                Ok(read_values(directory, record)?.map(Cow::Owned))
            }
        }
    }
}

impl Side<'static> {
    /// Reads a trace directory or a `.jsonl` file without keeping the records.
    pub(crate) fn open(path: &Path, map: &NameMap) -> Result<Self, Error> {
        let mut builder = Builder::new(map);
        let mut files = Files::default();
        let places = if path.is_file() {
            vec![pieces::ProcessDirectory { path: path.to_owned(), process: 0 }]
        } else {
            process_directories(path)?
        };
        for place in &places {
            let process = number(place.process);
            pieces(&place.path, &mut |piece| {
                let piece = match piece {
                    Ok(piece) => piece,
                    Err(problem) => return builder.problem(&problem),
                };
                if let Some(head) = scan::head(piece.bytes) {
                    return builder.add(&head, process, files.place(&piece));
                }
                match piece.parse() {
                    Ok(head) => builder.add(&head, process, files.place(&piece)),
                    Err(problem) => builder.problem(&problem),
                }
            });
        }
        if builder.is_nothing() {
            return Err(Error::NothingToRead(path.to_owned()));
        }
        Ok(Self::built(builder, RecordSource::Files(files)))
    }
}

impl Files {
    fn place(&mut self, piece: &Piece<'_>) -> Location {
        if self.paths.last().is_none_or(|last| last.as_os_str() != piece.path.as_os_str()) {
            self.paths.push(piece.path.to_owned());
        }
        Location { file: number(self.paths.len() - 1), length: number(piece.bytes.len()), at: piece.offset }
    }

    fn path(&self, place: Location) -> &Path {
        &self.paths[place.file as usize]
    }

    fn record(&self, place: Location) -> Result<TraceRecord, Error> {
        let path = self.path(place);
        let mut bytes = vec![0; place.length as usize];
        let mut opened = self.opened.borrow_mut();
        let file = match &mut *opened {
            Some((number, file)) if *number == place.file => file,
            other => &mut other.insert((place.file, open(path)?)).1,
        };
        file.seek(SeekFrom::Start(place.at)).map_err(Error::io("read", path))?;
        file.read_exact(&mut bytes).map_err(Error::io("read", path))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::Damaged { path: path.to_owned(), reason: error.to_string() })
    }
}

/// The number of a process or a file, or the length of a piece. These always fit u32: a piece has at most 64 MiB.
fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The index that was stored as a place.
fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
