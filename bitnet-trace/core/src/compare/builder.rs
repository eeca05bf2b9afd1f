//! Turns records, one after another, into the entries of a side.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::error::Error;
use crate::record::parts_of;
use crate::trace::pieces::MOST_PROBLEMS;

use super::entry::{Entry, Kind, Location};
use super::head::{Hash, Head};
use super::key::{Label, Position};
use super::map::NameMap;
use super::measure::Step;
use super::rename::{Renamed, Sorted, Waiting, rename};

/// Collects the entries of a side.
pub(crate) struct Builder<'m> {
    map: &'m NameMap,
    kinds: Kinds,
    entries: Vec<Entry>,
    problems: Vec<String>,
    /// If there is a map: records whose stage is decided once all records are known.
    waiting: Vec<Waiting>,
    names: HashSet<Arc<str>, RandomState>,
    as_recorded: Arc<[Step]>,
}

impl<'m> Builder<'m> {
    pub(crate) fn new(map: &'m NameMap) -> Self {
        Self {
            map,
            kinds: Kinds::default(),
            entries: Vec::new(),
            problems: Vec::new(),
            waiting: Vec::new(),
            names: HashSet::default(),
            as_recorded: Arc::from([]),
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.entries.is_empty() && self.waiting.is_empty() && self.problems.is_empty()
    }

    pub(crate) fn problem(&mut self, problem: &Error) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem.full());
        }
    }

    pub(crate) fn add(&mut self, head: &Head<'_>, process: u32, place: Location) {
        // The name of a gradient is that of its tensor: it does not follow the convention of stages.
        let stage = head.stage().or(head.is_gradient().then_some(&*head.name));
        let parts = parts_of(&head.name, stage);
        let position = Position {
            process,
            request: head.request,
            seq: head.seq_index.or(parts.seq),
            token: None,
            until: None,
            layer: head.layer_idx.or(parts.layer),
            call: if head.call > 0 { head.call } else { parts.call },
        };
        let stage = if head.is_weight() { &head.name } else { parts.stage };
        let as_recorded = Arc::clone(&self.as_recorded);
        let label = (stage, head.output().or(parts.output), head.io().or(parts.io));
        let entry = Entry {
            position,
            kind: self.kinds.keep(label, &head.dtype, &head.shape, &as_recorded),
            order: head.order.unwrap_or(u64::MAX),
            tokens: head.tokens,
            hash: Hash::parse(&head.blake3),
            raw: head.raw_hash(),
            place,
            layer_from_name: false,
            alone: false,
        };
        if self.map.is_empty() || head.is_weight() || head.is_gradient() {
            self.entries.push(entry);
        } else {
            let name = self.name(&head.name);
            self.waiting.push(Waiting { entry, name });
        }
    }

    /// Every step has the same names, so each is kept once.
    fn name(&mut self, name: &str) -> Arc<str> {
        let name = self.names.get(name).cloned().unwrap_or_else(|| Arc::from(name));
        self.names.insert(Arc::clone(&name));
        name
    }

    /// The entries in execution order, the entries that the map leaves out, and the problems of reading.
    pub(crate) fn finish(self) -> (Sorted, Vec<String>) {
        let Self { map, mut kinds, mut entries, waiting, problems, .. } = self;
        let renamed = |Renamed { entry, stage, keeps_output, steps }: Renamed<'_>| {
            let Label { output, io, .. } = &entry.kind.label;
            // A rule that names a local makes it what a function returns.
            let io = io.as_deref().filter(|io| keeps_output || *io != "let");
            let label = (stage, output.as_deref().filter(|_| keeps_output), io);
            let kind = kinds.keep(label, &entry.kind.dtype, &entry.kind.shape, steps);
            Entry { kind, ..entry }
        };
        let mut sorted = rename(map, waiting, renamed);
        entries.append(&mut sorted.entries);
        sorted.entries = entries;
        in_order(&mut sorted.entries);
        (sorted, problems)
    }
}

/// Sorts entries into execution order and numbers repeats.
pub(crate) fn in_order(entries: &mut [Entry]) {
    if !entries.is_sorted_by_key(|entry| (entry.position.process, entry.order)) {
        entries.sort_by_key(|entry| (entry.position.process, entry.order));
    }
    count_repeats(entries);
}

/// Makes keys unique: every further record of a key gets the next repeat number that no record has.
pub(crate) fn count_repeats(entries: &mut [Entry]) {
    let hasher = RandomState::default();
    // Two keys with the same hash are very unlikely, and would only skip a number.
    let mut taken = HashSet::with_capacity_and_hasher(entries.len(), RandomState::default());
    let further: Vec<usize> =
        (0..entries.len()).filter(|index| !taken.insert(hasher.hash_one(entries[*index].identity()))).collect();
    let mut next: HashMap<u64, usize, RandomState> = HashMap::default();
    for index in further {
        let entry = &mut entries[index];
        let of = hasher.hash_one((Position { call: 0, ..entry.position }, &entry.kind.label));
        let next = next.entry(of).or_insert(entry.position.call);
        loop {
            *next = next.saturating_add(1);
            entry.position.call = *next;
            if taken.insert(hasher.hash_one(entry.identity())) || *next == usize::MAX {
                break;
            }
        }
    }
}

/// Stage, output and io.
type LabelRef<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// The kinds of records so far. Records of one kind share it.
#[derive(Default)]
struct Kinds {
    hasher: RandomState,
    /// By hash. Of two kinds with the same hash only the later one is kept.
    kept: HashMap<u64, Arc<Kind>, RandomState>,
}

impl Kinds {
    fn keep(&mut self, label: LabelRef<'_>, dtype: &str, shape: &[usize], steps: &Arc<[Step]>) -> Arc<Kind> {
        let hash = self.hasher.hash_one((label, dtype, shape, steps.as_ptr().addr()));
        let is_same = |kind: &Kind| {
            let Label { stage: kept, output: kept_output, io: kept_io } = &kind.label;
            (&**kept, kept_output.as_deref(), kept_io.as_deref()) == label
                && *kind.dtype == *dtype
                && *kind.shape == *shape
                && Arc::ptr_eq(&kind.steps, steps)
        };
        if let Some(kind) = self.kept.get(&hash).filter(|kind| is_same(kind)) {
            return Arc::clone(kind);
        }
        let (stage, output, io) = label;
        let label = Label { stage: stage.into(), output: output.map(Arc::from), io: io.map(Arc::from) };
        let kind = Arc::new(Kind { label, dtype: dtype.into(), shape: shape.into(), steps: Arc::clone(steps) });
        self.kept.insert(hash, Arc::clone(&kind));
        kind
    }
}
