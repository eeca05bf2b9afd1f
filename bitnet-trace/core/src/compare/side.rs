//! One side of a comparison: what records are aligned by, and where the rest of them is.
//!
//! Of a record in a file no more is kept than its place and what tells whether it is identical to
//! another; statistics, sketch and values are read again for the pairs that are not.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::trace::values::{Values, read_values};
use crate::error::Error;
use crate::trace::pieces::{self, Piece, open, pieces, places};
use crate::trace::Trace;
use crate::record::TraceRecord;

use super::builder::Builder;
use super::entry::{Entry, Place};
use super::head::Head;
use super::map::NameMap;
use super::rename::Sorted;
use super::scan;

/// Records, with what they are aligned by.
pub(crate) struct Side<'a> {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<String>,
    /// What the map leaves out.
    pub(crate) left_out: Vec<Entry>,
    source: Source<'a>,
}

/// Where whole records are.
enum Source<'a> {
    Trace(&'a Trace),
    Files(Files),
}

/// Record files, read again at any place.
#[derive(Default)]
struct Files {
    paths: Vec<PathBuf>,
    /// The one that was read from last.
    opened: RefCell<Option<(u32, File)>>,
}

impl<'a> Side<'a> {
    /// Of records that are in memory, or were read.
    pub(crate) fn of(trace: &'a Trace, map: &NameMap) -> Self {
        let mut builder = Builder::new(map);
        for (index, record) in trace.records().iter().enumerate() {
            let place = Place { file: 0, length: 0, at: index as u64 };
            builder.add(&Head::from(record), number(trace.process_of(index)), place);
        }
        trace.problems().iter().for_each(|problem| builder.problem(problem));
        Self::built(builder, Source::Trace(trace))
    }

    fn built(builder: Builder<'_>, source: Source<'a>) -> Self {
        let (Sorted { entries, left_out }, problems) = builder.finish();
        Self { entries, problems, left_out, source }
    }

    /// Whether the entry's tensor was captured.
    pub(crate) fn has_values(&self, entry: &Entry) -> bool {
        match &self.source {
            Source::Trace(trace) => trace.has_values(&trace.records()[index(entry.place.at)]),
            Source::Files(files) => files.record(entry.place).is_ok_and(|record| record.values.is_some()),
        }
    }

    /// The entry's whole record.
    pub(crate) fn record(&self, entry: &Entry) -> Result<Cow<'_, TraceRecord>, Error> {
        match &self.source {
            Source::Trace(trace) => Ok(Cow::Borrowed(&trace.records()[index(entry.place.at)])),
            Source::Files(files) => Ok(Cow::Owned(files.record(entry.place)?)),
        }
    }

    /// The entry's captured elements, as they were recorded.
    pub(crate) fn captured(&self, entry: &Entry, record: &TraceRecord) -> Result<Option<Cow<'_, Values>>, Error> {
        match &self.source {
            Source::Trace(trace) => trace.captured(record),
            Source::Files(files) => {
                // Values are named from where the records lie.
                let directory = files.path(entry.place).parent().unwrap_or(Path::new(""));
                Ok(read_values(directory, record)?.map(Cow::Owned))
            }
        }
    }
}

impl Side<'static> {
    /// Of a trace directory or a `.jsonl` file, without keeping the records.
    pub(crate) fn open(path: &Path, map: &NameMap) -> Result<Self, Error> {
        let mut builder = Builder::new(map);
        let mut files = Files::default();
        let places =
            if path.is_file() { vec![pieces::Place { path: path.to_owned(), process: 0 }] } else { places(path)? };
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
        Ok(Self::built(builder, Source::Files(files)))
    }
}

impl Files {
    fn place(&mut self, piece: &Piece<'_>) -> Place {
        if self.paths.last().is_none_or(|last| last.as_os_str() != piece.path.as_os_str()) {
            self.paths.push(piece.path.to_owned());
        }
        Place { file: number(self.paths.len() - 1), length: number(piece.bytes.len()), at: piece.offset }
    }

    fn path(&self, place: Place) -> &Path {
        &self.paths[place.file as usize]
    }

    fn record(&self, place: Place) -> Result<TraceRecord, Error> {
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

/// A number of processes, files, or bytes of a piece: none comes near the end of u32.
fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Formerly an index.
fn index(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
