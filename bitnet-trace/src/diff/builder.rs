//! From records, one after another, to the entries of a side.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::error::Error;
use crate::pieces::MOST_PROBLEMS;

use super::head::{Hash, Head};
use super::key::{Key, parts_of};
use super::map::{Mapped, NameMap};
use super::side::{Entry, Place};
use super::view::Step;

/// Puts the entries of a side together.
pub(crate) struct Builder<'m> {
    map: &'m NameMap,
    texts: Texts,
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
            texts: Texts::default(),
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
                let key = Key {
                    process,
                    request: head.request,
                    seq: head.seq_index.or(seq),
                    token: None,
                    layer: head.layer_idx.or(layer),
                    stage: self.texts.keep(stage),
                    output: None,
                    io: head.io().map(|io| self.texts.keep(io)),
                    call,
                };
                self.push(head, key, Arc::clone(steps), place);
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
            stage: self.texts.keep(if head.is_weight() { &head.name } else { parts.stage }),
            output: head.output().or(parts.output).map(|output| self.texts.keep(output)),
            io: head.io().or(parts.io).map(|io| self.texts.keep(io)),
            call: if head.call > 0 { head.call } else { parts.call },
        };
        self.push(head, key, Arc::clone(&self.as_recorded), place);
    }

    fn push(&mut self, head: &Head<'_>, key: Key, steps: Arc<[Step]>, place: Place) {
        self.entries.push(Entry {
            key,
            order: head.order.unwrap_or(u64::MAX),
            tokens: head.tokens,
            shape: head.shape.as_slice().into(),
            dtype: self.texts.keep(&head.dtype),
            hash: Hash::parse(&head.blake3),
            raw: head.raw_hash(),
            steps,
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
        if !self.entries.is_sorted_by_key(|entry| (entry.key.process, entry.order)) {
            self.entries.sort_by_key(|entry| (entry.key.process, entry.order));
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
    if entries.iter().all(|entry| alone.insert(hasher.hash_one(&entry.key))) {
        return;
    }
    let mut next: HashMap<Key, usize, RandomState> = HashMap::default();
    for entry in entries {
        let next = next.entry(Key { call: 0, ..entry.key.clone() }).or_default();
        entry.key.call = entry.key.call.max(*next);
        *next = entry.key.call + 1;
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
