//! From records, one after another, to the entries of a side.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::error::Error;
use crate::pieces::MOST_PROBLEMS;

use super::entry::{Entry, Kind, Place};
use super::head::{Hash, Head};
use super::key::{Label, Position, parts_of};
use super::map::{Mapped, NameMap};
use super::measure::Step;

/// Puts the entries of a side together.
pub(crate) struct Builder<'m> {
    map: &'m NameMap,
    kinds: Kinds,
    entries: Vec<Entry>,
    problems: Vec<Error>,
    ignored: usize,
    /// How many records of a name came before without a number, for the map.
    named: HashMap<(u32, Option<u64>, Option<usize>, String), usize>,
    as_recorded: Arc<[Step]>,
}

impl<'m> Builder<'m> {
    pub(crate) fn new(map: &'m NameMap) -> Self {
        Self {
            map,
            kinds: Kinds::default(),
            entries: Vec::new(),
            problems: Vec::new(),
            ignored: 0,
            named: HashMap::new(),
            as_recorded: Arc::from([]),
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        self.entries.is_empty() && self.problems.is_empty() && self.ignored == 0
    }

    pub(crate) fn problem(&mut self, problem: Error) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(problem);
        }
    }

    pub(crate) fn add(&mut self, head: &Head<'_>, process: u32, place: Place) {
        if !self.map.is_empty()
            && !head.is_weight()
            && let Some((parts, call)) = self.mapped(head, process)
        {
            self.ignored += usize::from(parts.is_empty());
            for Mapped { stage, layer, seq, steps, .. } in parts {
                let position = Position {
                    process,
                    request: head.request,
                    seq: head.seq_index.or(seq),
                    token: None,
                    layer: head.layer_idx.or(layer),
                    call,
                };
                self.push(head, position, (stage, None, head.io()), steps, place);
            }
            return;
        }
        let parts = parts_of(&head.name, head.stage());
        let position = Position {
            process,
            request: head.request,
            seq: head.seq_index.or(parts.seq),
            token: None,
            layer: head.layer_idx.or(parts.layer),
            call: if head.call > 0 { head.call } else { parts.call },
        };
        let stage = if head.is_weight() { &head.name } else { parts.stage };
        let as_recorded = Arc::clone(&self.as_recorded);
        let label = (stage, head.output().or(parts.output), head.io().or(parts.io));
        self.push(head, position, label, &as_recorded, place);
    }

    fn push(&mut self, head: &Head<'_>, position: Position, label: LabelRef<'_>, steps: &Arc<[Step]>, place: Place) {
        self.entries.push(Entry {
            position,
            kind: self.kinds.keep(label, &head.dtype, &head.shape, steps),
            order: head.order.unwrap_or(u64::MAX),
            tokens: head.tokens,
            hash: Hash::parse(&head.blake3),
            raw: head.raw_hash(),
            place,
        });
    }

    /// What the map says of a record, and which of several records of the stage it is.
    fn mapped(&mut self, head: &Head<'_>, process: u32) -> Option<(Vec<Mapped<'m>>, usize)> {
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
        let alone = found.iter().any(|mapped| mapped.alone);
        Some((found, if alone { 0 } else { call }))
    }

    /// The entries in execution order, the problems, and how many records the map left out.
    pub(crate) fn finish(mut self) -> (Vec<Entry>, Vec<Error>, usize) {
        if !self.entries.is_sorted_by_key(|entry| (entry.position.process, entry.order)) {
            self.entries.sort_by_key(|entry| (entry.position.process, entry.order));
        }
        count_repeats(&mut self.entries);
        (self.entries, self.problems, self.ignored)
    }
}

/// Gives records of one key, whose repeat numbers are not told apart, the next that is free.
fn count_repeats(entries: &mut [Entry]) {
    let hasher = RandomState::default();
    let mut alone = HashSet::with_capacity_and_hasher(entries.len(), RandomState::default());
    // Two keys of one hash, which is less likely than a fault of the machine, only cost the count.
    if entries.iter().all(|entry| alone.insert(hasher.hash_one(entry.identity()))) {
        return;
    }
    let mut next: HashMap<(Position, Label), usize, RandomState> = HashMap::default();
    for entry in entries {
        let of = (Position { call: 0, ..entry.position }, entry.kind.label.clone());
        let next = next.entry(of).or_default();
        entry.position.call = entry.position.call.max(*next);
        *next = entry.position.call + 1;
    }
}

/// Stage, output and io.
type LabelRef<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// What many records share, kept once.
#[derive(Default)]
struct Kinds {
    hasher: RandomState,
    /// By their hash; of two with the same the later one.
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
