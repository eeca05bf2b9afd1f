//! Remembers which records of a run a session wrote, and where, so that the session can read them back.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::error::Error;
use crate::record::TraceRecord;
use crate::record::layout::JSONL;
use crate::trace::Trace;
use crate::trace::pieces::{lines_within, whole_record};

/// The place where a record was written.
#[derive(Debug)]
pub(crate) enum RecordPlace {
    Memory,
    /// The name of a file in the trace directory.
    File(Box<str>),
    /// A range of bytes in `trace.jsonl`.
    Line(Range<u64>),
}

/// The places of the records of one session. In format `files` it needs memory for one file name per record; in format
/// `jsonl` its size stays constant while the session is the only one that writes.
#[derive(Debug, Default)]
pub(crate) struct OwnRecords {
    orders: Ranges,
    files: Vec<Box<str>>,
    lines: Ranges,
}

impl OwnRecords {
    pub(crate) fn add(&mut self, order: u64, place: RecordPlace) {
        self.orders.insert(order..order + 1);
        match place {
            RecordPlace::Memory => {}
            RecordPlace::File(name) => self.files.push(name),
            RecordPlace::Line(bytes) => self.lines.insert(bytes),
        }
    }

    /// Number of records.
    fn len(&self) -> u64 {
        self.orders.0.iter().map(|(start, end)| end - start).sum()
    }

    /// Reads the records back from `directory`. Other files there are not read.
    pub(crate) fn trace(&self, directory: &Path) -> Trace {
        let (mut records, mut problems) = (Vec::new(), Vec::new());
        self.read(directory, &mut |read| match read {
            Ok(record) => records.push(record),
            Err(problem) => problems.push(problem),
        });
        let missing = self.len().saturating_sub(records.len() as u64);
        if missing > 0 {
            problems.insert(0, Error::Missing { path: directory.to_owned(), missing, of: self.len() });
        }
        Trace::of_records(directory, records, problems)
    }

    /// Reads the records back. Missing records are skipped; the caller counts them.
    fn read(&self, directory: &Path, each: &mut dyn FnMut(Result<TraceRecord, Error>)) {
        let mut own = |read: Result<TraceRecord, Error>| match read {
            // The file or line now holds a record of another session.
            Ok(record) if !record.order.is_some_and(|order| self.orders.contains(order)) => {}
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            read => each(read),
        };
        for name in &self.files {
            own(whole_record(&directory.join(&**name)));
        }
        for (start, end) in &self.lines.0 {
            lines_within(&directory.join(JSONL), *start..*end, &mut |piece| {
                own(piece.and_then(|piece| piece.parse()));
            });
        }
    }
}

/// A set of numbers as ranges that neither overlap nor touch: a map from start to end.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds a range and joins it with its neighbours, so that numbers that come in order need only one range.
    fn insert(&mut self, range: Range<u64>) {
        let end = self.0.remove(&range.end).unwrap_or(range.end);
        match self.0.range_mut(..range.start).next_back() {
            Some((_, before)) if *before == range.start => *before = end,
            _ => {
                self.0.insert(range.start, end);
            }
        }
    }

    fn contains(&self, number: u64) -> bool {
        self.0.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;

    #[test]
    fn ranges_are_joined_whatever_their_order() {
        let mut ranges = Ranges::default();
        for start in [0, 2, 1, 5, 7, 6, 3] {
            ranges.insert(start..start + 1);
        }
        assert_eq!(ranges.0.into_iter().collect::<Vec<_>>(), [(0, 4), (5, 8)]);
    }
}
