//! One side of a comparison: what records are aligned by, and where the rest of them is.
//!
//! Of a record in a file no more is kept than its place and what tells whether it is identical to
//! another; statistics, sketch and values are read again for the pairs that are not.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use foldhash::fast::RandomState;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::Error;
use crate::paths::{JSONL, entries};
use crate::read::{self, Line, Trace};
use crate::record::TraceRecord;

use super::key::{Key, parts_of};
use super::map::NameMap;
use super::view::Step;

/// Most problems that are kept.
const MOST_PROBLEMS: usize = 1000;

/// Records, with what they are aligned by.
pub(crate) struct Side<'a> {
    pub(crate) entries: Vec<Entry>,
    pub(crate) problems: Vec<Error>,
    /// Records that the map leaves out.
    pub(crate) ignored: usize,
    source: Source<'a>,
    /// The file that a line was read from last.
    opened: RefCell<Option<(u32, File)>>,
}

enum Source<'a> {
    Trace(&'a Trace),
    /// Each with the directory that its records' values are named from.
    Files(Vec<(PathBuf, PathBuf)>),
}

/// What is kept of a record.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) order: u64,
    pub(crate) tokens: Option<[usize; 2]>,
    pub(crate) shape: Box<[usize]>,
    pub(crate) dtype: Arc<str>,
    pub(crate) hash: Hash,
    pub(crate) raw: Option<Box<Hash>>,
    /// What is done to the tensor before it is compared.
    pub(crate) steps: Arc<[Step]>,
    pub(crate) place: Place,
}

/// A digest: 64 hex digits, or what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Hash {
    Bytes([u8; 32]),
    Text(Box<str>),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// Index of a record in memory.
    Record(usize),
    /// A whole file, by number.
    File(u32),
    /// A line: the file, its first byte, its length.
    Line(u32, u64, u32),
}

/// The part of a record that is looked at first; the rest is passed over without being kept.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Vec<usize>,
    #[serde(borrow)]
    dtype: Cow<'a, str>,
    #[serde(borrow)]
    blake3: Cow<'a, str>,
    #[serde(alias = "seq", default)]
    seq_index: Option<usize>,
    #[serde(alias = "layer", deserialize_with = "crate::record::negative_is_none", default)]
    layer_idx: Option<usize>,
    #[serde(borrow, default)]
    stage: Option<Text<'a>>,
    #[serde(default)]
    order: Option<u64>,
    #[serde(default)]
    call: usize,
    #[serde(borrow, default)]
    output: Option<Text<'a>>,
    #[serde(borrow, default)]
    io: Option<Text<'a>>,
    #[serde(default)]
    request: Option<u64>,
    #[serde(default)]
    tokens: Option<[usize; 2]>,
    #[serde(borrow, default)]
    raw_blake3: Option<Text<'a>>,
    /// These two are asked for, as what has none is no record.
    #[allow(dead_code)]
    rms: IgnoredAny,
    #[allow(dead_code)]
    num_elements: IgnoredAny,
}

/// Borrowed where the JSON has no escapes, which `Option<Cow>` alone never is.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl Head<'_> {
    fn io(&self) -> Option<&str> {
        self.io.as_ref().map(|io| &*io.0)
    }

    fn stage(&self) -> Option<&str> {
        self.stage.as_ref().map(|stage| &*stage.0)
    }
}

impl<'a> From<&'a TraceRecord> for Head<'a> {
    fn from(record: &'a TraceRecord) -> Self {
        let borrowed = |text: &'a Option<String>| text.as_deref().map(|text| Text(Cow::Borrowed(text)));
        Self {
            name: Cow::Borrowed(&record.name),
            shape: record.shape.clone(),
            dtype: Cow::Borrowed(&record.dtype),
            blake3: Cow::Borrowed(&record.blake3),
            seq_index: record.seq_index,
            layer_idx: record.layer_idx,
            stage: borrowed(&record.stage),
            order: record.order,
            call: record.call,
            output: borrowed(&record.output),
            io: borrowed(&record.io),
            request: record.request,
            tokens: record.tokens,
            raw_blake3: borrowed(&record.raw_blake3),
            rms: IgnoredAny,
            num_elements: IgnoredAny,
        }
    }
}

impl Hash {
    fn parse(text: &str) -> Self {
        let mut bytes = [0; 32];
        let digits = text.as_bytes().as_chunks::<2>();
        let whole = digits.0.len() == bytes.len() && digits.1.is_empty();
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        for (byte, [high, low]) in bytes.iter_mut().zip(digits.0) {
            match (nibble(*high), nibble(*low)) {
                (Some(high), Some(low)) if whole => *byte = high << 4 | low,
                _ => return Self::Text(text.into()),
            }
        }
        if whole { Self::Bytes(bytes) } else { Self::Text(text.into()) }
    }
}

/// Texts that many records share, kept once.
#[derive(Default)]
struct Texts(HashSet<Arc<str>, RandomState>);

impl Texts {
    fn keep(&mut self, text: &str) -> Arc<str> {
        if let Some(kept) = self.0.get(text) {
            return Arc::clone(kept);
        }
        let kept: Arc<str> = text.into();
        self.0.insert(Arc::clone(&kept));
        kept
    }
}

/// Puts the entries of a side together.
struct Builder<'m> {
    map: &'m NameMap,
    texts: Texts,
    entries: Vec<Entry>,
    problems: Vec<Error>,
    ignored: usize,
    /// How many records of a name came before without a number, for the map.
    named: HashMap<(u32, Option<u64>, Option<usize>, String), usize>,
    steps: HashMap<Vec<u8>, Arc<[Step]>>,
    none: Arc<[Step]>,
}

impl<'m> Builder<'m> {
    fn new(map: &'m NameMap) -> Self {
        Self {
            map,
            texts: Texts::default(),
            entries: Vec::new(),
            problems: Vec::new(),
            ignored: 0,
            named: HashMap::new(),
            steps: HashMap::new(),
            none: Arc::from([]),
        }
    }

    fn problem(&mut self, problem: Error) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    fn add(&mut self, head: &Head<'_>, process: u32, place: Place) {
        let entry = |key, steps| Entry {
            key,
            order: head.order.unwrap_or(u64::MAX),
            tokens: head.tokens,
            shape: head.shape.as_slice().into(),
            dtype: Arc::from(""),
            hash: Hash::parse(&head.blake3),
            raw: head.raw_blake3.as_ref().map(|raw| Box::new(Hash::parse(&raw.0))),
            steps,
            place,
        };
        let dtype = self.texts.keep(&head.dtype);
        if !self.map.is_empty()
            && head.io() != Some("weight")
            && let Some((parts, call)) = self.mapped(head, process)
        {
            self.ignored += usize::from(parts.is_empty());
            for (stage, layer, seq, steps) in parts {
                let key = Key {
                    process,
                    request: head.request,
                    seq: head.seq_index.or(seq),
                    token: None,
                    layer: head.layer_idx.or(layer),
                    stage: self.texts.keep(&stage),
                    output: None,
                    io: head.io().map(|io| self.texts.keep(io)),
                    call,
                };
                self.entries.push(Entry { dtype: Arc::clone(&dtype), ..entry(key, steps) });
            }
            return;
        }
        let parts = parts_of(&head.name, head.stage());
        let key = Key {
            process,
            request: head.request,
            seq: head.seq_index.or(parts.seq),
            token: None,
            layer: head.layer_idx.or(parts.layer),
            stage: self.texts.keep(if head.io() == Some("weight") { &head.name } else { parts.stage }),
            output: head
                .output
                .as_ref()
                .map(|output| &*output.0)
                .or(parts.output)
                .map(|output| self.texts.keep(output)),
            io: head.io().or(parts.io).map(|io| self.texts.keep(io)),
            call: if head.call > 0 { head.call } else { parts.call },
        };
        let none = Arc::clone(&self.none);
        self.entries.push(Entry { dtype, ..entry(key, none) });
    }

    /// What the map says of a record, and which of several records of the stage it is.
    #[allow(clippy::type_complexity)] // for one caller
    fn mapped(
        &mut self,
        head: &Head<'_>,
        process: u32,
    ) -> Option<(Vec<(String, Option<usize>, Option<usize>, Arc<[Step]>)>, usize)> {
        let full = head.name.as_ref();
        let (base, numbered) = match full.rsplit_once('#') {
            Some((base, number)) if number.parse::<usize>().is_ok() => (base, number.parse().ok()),
            _ => (full, None),
        };
        // Files are read by name, so that `x#1` comes before `x`: those without a number are counted.
        let call = numbered.unwrap_or_else(|| {
            let count = self.named.entry((process, head.request, head.seq_index, base.to_owned())).or_default();
            *count += 1;
            *count - 1
        });
        // A tap may have told nodes of one name apart by `.0`, `.1`.
        let dotted = base.rsplit_once('.').and_then(|(base, number)| Some((base, number.parse().ok()?)));
        let last = base.rsplit('/').next().unwrap_or(base);
        let candidates = [Some((base, call)), dotted, Some((last, call)), head.stage().map(|stage| (stage, call))];
        let map = self.map;
        let (found, call) =
            candidates.into_iter().flatten().find_map(|(name, call)| Some((map.apply(name, call)?, call)))?;
        let mut alone = false;
        let parts = found.into_iter().map(|mapped| {
            alone |= mapped.alone;
            let steps = if mapped.steps.is_empty() {
                Arc::clone(&self.none)
            } else {
                let key = format!("{:?}", mapped.steps).into_bytes();
                Arc::clone(self.steps.entry(key).or_insert_with(|| mapped.steps.into()))
            };
            (mapped.stage.to_owned(), mapped.layer, mapped.seq, steps)
        });
        let parts = parts.collect();
        Some((parts, if alone { 0 } else { call }))
    }

    /// Gives records of one key, whose repeat numbers are not told apart, the next that is free.
    fn count_repeats(&mut self) {
        let hasher = RandomState::default();
        let mut alone = HashSet::with_capacity_and_hasher(self.entries.len(), RandomState::default());
        // Two keys of one hash, which is less likely than a fault of the machine, only cost the count.
        if self.entries.iter().all(|entry| alone.insert(hasher.hash_one(&entry.key))) {
            return;
        }
        let mut next: HashMap<Key, usize, RandomState> = HashMap::default();
        for entry in &mut self.entries {
            let next = next.entry(Key { call: 0, ..entry.key.clone() }).or_default();
            entry.key.call = entry.key.call.max(*next);
            *next = entry.key.call + 1;
        }
    }

    /// In execution order; records that say no repeat number are counted.
    fn finish(mut self, source: Source<'_>) -> Side<'_> {
        if !self.entries.is_sorted_by_key(|entry| (entry.key.process, entry.order)) {
            self.entries.sort_by_key(|entry| (entry.key.process, entry.order));
        }
        self.count_repeats();
        let Self { entries, problems, ignored, .. } = self;
        Side { entries, problems, ignored, source, opened: RefCell::default() }
    }
}

impl<'a> Side<'a> {
    /// Of records that are in memory, or were read.
    pub(crate) fn of(trace: &'a Trace, map: &NameMap) -> Self {
        let mut builder = Builder::new(map);
        for (index, record) in trace.records().iter().enumerate() {
            builder.add(&Head::from(record), 0, Place::Record(index));
        }
        builder.finish(Source::Trace(trace))
    }

    /// The entry's whole record.
    pub(crate) fn record(&self, entry: &Entry) -> Result<Cow<'_, TraceRecord>, Error> {
        let path = |file: u32| match &self.source {
            Source::Files(files) => files[file as usize].0.clone(),
            Source::Trace(_) => PathBuf::new(),
        };
        match (entry.place, &self.source) {
            (Place::Record(index), Source::Trace(trace)) => Ok(Cow::Borrowed(&trace.records()[index])),
            (Place::File(file), _) => Ok(Cow::Owned(read::read_record(&path(file))?)),
            (Place::Line(file, offset, length), _) => {
                let path = path(file);
                let mut line = vec![0; length as usize];
                let mut opened = self.opened.borrow_mut();
                let opened = match &mut *opened {
                    Some((number, opened)) if *number == file => opened,
                    other => &mut other.insert((file, read::open(&path)?)).1,
                };
                opened.seek(SeekFrom::Start(offset)).map_err(Error::io("read", &path))?;
                opened.read_exact(&mut line).map_err(Error::io("read", &path))?;
                let damaged = |error: serde_json::Error| Error::Damaged { path, reason: error.to_string() };
                Ok(Cow::Owned(serde_json::from_slice(&line).map_err(damaged)?))
            }
            (Place::Record(_), Source::Files(_)) => Err(Error::NothingToRead(PathBuf::new())),
        }
    }

    /// The entry's captured tensor, as it was recorded.
    pub(crate) fn values(&self, entry: &Entry, record: &TraceRecord) -> Result<Option<Tensor>, Error> {
        match (&self.source, entry.place) {
            (Source::Trace(trace), _) => trace.values(record),
            (Source::Files(files), Place::File(file) | Place::Line(file, ..)) => {
                read::captured(&files[file as usize].1, record)
            }
            (Source::Files(_), Place::Record(_)) => Ok(None),
        }
    }
}

impl Side<'static> {
    /// Of a trace directory or a `.jsonl` file, without keeping the records.
    pub(crate) fn open(path: &Path, map: &NameMap) -> Result<Self, Error> {
        let mut builder = Builder::new(map);
        let mut files = Vec::new();
        if path.is_file() {
            let directory = path.parent().unwrap_or(Path::new("")).to_owned();
            read_lines(&mut builder, path, 0, number(&mut files, path, &directory))?;
        } else {
            for (process, place) in read::places(path)?.iter().enumerate() {
                let process = u32::try_from(process).unwrap_or(u32::MAX);
                read_place(&mut builder, place, process, &mut files)?;
            }
        }
        if builder.entries.is_empty() && builder.problems.is_empty() && builder.ignored == 0 {
            return Err(Error::NothingToRead(path.to_owned()));
        }
        Ok(builder.finish(Source::Files(files)))
    }
}

fn number(files: &mut Vec<(PathBuf, PathBuf)>, path: &Path, directory: &Path) -> u32 {
    files.push((path.to_owned(), directory.to_owned()));
    u32::try_from(files.len() - 1).unwrap_or(u32::MAX)
}

fn read_place(
    builder: &mut Builder<'_>,
    place: &Path,
    process: u32,
    files: &mut Vec<(PathBuf, PathBuf)>,
) -> Result<(), Error> {
    for path in entries(place)?.iter().filter(|path| read::is_record(path)) {
        match read::read_record(path) {
            Ok(record) => builder.add(&Head::from(&record), process, Place::File(number(files, path, place))),
            Err(problem) => builder.problem(problem),
        }
    }
    let lines = place.join(JSONL);
    if lines.exists() {
        let file = number(files, &lines, place);
        if let Err(problem) = read_lines(builder, &lines, process, file) {
            builder.problem(problem);
        }
    }
    Ok(())
}

fn read_lines(builder: &mut Builder<'_>, path: &Path, process: u32, file: u32) -> Result<(), Error> {
    read::lines(path, |Line { number, offset, bytes }| {
        let head = bytes.and_then(|bytes| {
            let length = u32::try_from(bytes.len()).map_err(|error| error.to_string())?;
            let head: Head<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
            Ok((head, Place::Line(file, offset, length)))
        });
        match head {
            Ok((head, place)) => builder.add(&head, process, place),
            Err(reason) => builder.problem(read::damaged_line(path, number, &reason)),
        }
    })
}
