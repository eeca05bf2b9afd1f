//! Pairs records in order if only one side knows the steps or requests, or if the sides count them differently: the
//! n-th record of a stage and layer on one side belongs to the n-th on the other.
//!
//! Only records without a partner by their key are paired here, and only between the records that have one. If those
//! are in different orders on the two sides, the order shows nothing and no record is paired.

use std::collections::{BTreeSet, HashMap, HashSet};

use foldhash::fast::RandomState;

use super::super::entry::Entry;
use super::super::head::Hash;
use super::super::key::{Label, Position};
use super::super::measure::squeezed;
use super::{Partners, positions};

/// The part of the key that may differ between partners.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Relaxed {
    Request,
    Step,
    Both,
}

impl Relaxed {
    /// The key without the part that may differ.
    fn group(self, entry: &Entry) -> (Position, &Label) {
        let mut position = Position { call: 0, ..entry.position };
        if self != Self::Step {
            position.request = None;
        }
        if self != Self::Request {
            position.seq = None;
        }
        (position, &entry.kind.label)
    }
}

/// Pairs the records that have no partner yet.
pub(super) fn pair_in_order(reference: &[Entry], trace: &[Entry], steps: &Numbering, partners: &mut Partners) {
    let requests = Numbering::of(reference, trace, |at| at.request);
    for relaxed in [Relaxed::Request, Relaxed::Step, Relaxed::Both] {
        let all_paired = |side: &[Option<usize>]| side.iter().all(Option::is_some);
        if all_paired(&partners.of_reference) || all_paired(&partners.of_trace) {
            return;
        }
        let sides = Sides { reference, trace, steps, requests: &requests };
        for (left, right) in groups(reference, trace, partners, relaxed) {
            sides.pair_group(&left, &right, partners);
        }
    }
}

/// Indices of records of the reference and of the trace, in execution order.
type Group = (Vec<usize>, Vec<usize>);

/// Groups the records that agree in all but the relaxed part of their key. Groups without an unpaired record on both
/// sides are left out.
fn groups(reference: &[Entry], trace: &[Entry], partners: &Partners, relaxed: Relaxed) -> Vec<Group> {
    let relaxable = |entry: &Entry| !(entry.alone || entry.kind.label.is_weight());
    let mut numbers: HashMap<_, usize, RandomState> = HashMap::default();
    let mut groups: Vec<(Group, bool)> = Vec::new();
    for (index, entry) in trace.iter().enumerate().filter(|(_, entry)| relaxable(entry)) {
        if partners.of_trace[index].is_none() {
            numbers.entry(relaxed.group(entry)).or_insert_with(|| {
                groups.push(Default::default());
                groups.len() - 1
            });
        }
    }
    for (index, entry) in trace.iter().enumerate().filter(|(_, entry)| relaxable(entry)) {
        if let Some(number) = numbers.get(&relaxed.group(entry)) {
            groups[*number].0.1.push(index);
        }
    }
    for (index, entry) in reference.iter().enumerate().filter(|(_, entry)| relaxable(entry)) {
        if let Some(number) = numbers.get(&relaxed.group(entry)) {
            let ((left, _), alone) = &mut groups[*number];
            left.push(index);
            *alone |= partners.of_reference[index].is_none();
        }
    }
    groups.into_iter().filter_map(|(group, alone)| alone.then_some(group)).collect()
}

struct Sides<'s> {
    reference: &'s [Entry],
    trace: &'s [Entry],
    steps: &'s Numbering,
    requests: &'s Numbering,
}

impl Sides<'_> {
    fn pair_group(&self, left: &[usize], right: &[usize], partners: &mut Partners) {
        let places: HashMap<usize, usize> = right.iter().enumerate().map(|(place, index)| (*index, place)).collect();
        let (mut begin, mut found) = (0, Vec::new());
        let mut alone = Vec::new();
        let mut anchored = false;
        for index in left {
            // A partner outside this group says nothing about the order inside it.
            match partners.of_reference[*index].map(|partner| places.get(&partner)) {
                None => alone.push(*index),
                Some(None) => {}
                Some(Some(place)) if *place >= begin => {
                    anchored = true;
                    found.push((std::mem::take(&mut alone), begin..*place));
                    begin = place + 1;
                }
                // The partners are in different orders on the two sides.
                Some(Some(_)) => return,
            }
        }
        found.push((alone, begin..right.len()));
        for (alone, between) in found {
            let others: Vec<usize> =
                right[between].iter().copied().filter(|index| partners.of_trace[*index].is_none()).collect();
            if self.may_pair(&alone, &others, anchored) {
                alone.iter().zip(&others).for_each(|(left, right)| partners.pair(*left, *right));
            }
        }
    }

    /// Whether the n-th record of the reference may belong to the n-th record of the trace.
    fn may_pair(&self, left: &[usize], right: &[usize], anchored: bool) -> bool {
        let pairs = || left.iter().zip(right).map(|(left, right)| (&self.reference[*left], &self.trace[*right]));
        if !pairs().all(|(left, right)| self.may_be_one(left, right)) {
            return false;
        }
        // If one side ran for longer, both have to begin with their first step, and all shapes have to agree.
        let same_shape = |(left, right): (&Entry, &Entry)| squeezed(&left.kind.shape) == squeezed(&right.kind.shape);
        if left.len() == right.len() {
            return true;
        }
        let hashes = |side: &[Entry], indices: &[usize]| -> HashSet<_> {
            indices.iter().map(|index| side[*index].hash.clone()).filter(Hash::is_digest).collect()
        };
        let (ours, theirs) = (hashes(self.reference, left), hashes(self.trace, right));
        // A record that equals another record than its counterpart shows that the sides begin at different steps.
        let is_elsewhere = |(left, right): (&Entry, &Entry)| {
            !left.hash.proves_equal(&right.hash) && (theirs.contains(&left.hash) || ours.contains(&right.hash))
        };
        !anchored && self.steps.begin(pairs().next()) && pairs().all(same_shape) && !pairs().any(is_elsewhere)
    }

    fn may_be_one(&self, left: &Entry, right: &Entry) -> bool {
        let tokens = left.tokens.zip(right.tokens).is_none_or(|(left, right)| left == right);
        let seq = |entry: &Entry| entry.position.seq.map(|seq| seq as u64);
        // Records of one step are told apart by their repeat numbers.
        let (a, b) = (left.position, right.position);
        let repeats = (a.seq, a.request) != (b.seq, b.request) || a.call == b.call;
        tokens
            && repeats
            && self.steps.may_be_one(seq(left), seq(right))
            && self.requests.may_be_one(left.position.request, right.position.request)
    }
}

/// The numbers that the sides give to steps, or to requests.
pub(super) struct Numbering {
    reference: BTreeSet<u64>,
    trace: BTreeSet<u64>,
    /// For each number of the trace the number of the reference, if the sides count the same steps differently.
    renumbered: HashMap<u64, u64>,
    /// The same for the requests in which one side numbers its steps by positions: there a number that both sides have
    /// is not the same step.
    by_position: positions::Renumbered,
}

impl Numbering {
    pub(super) fn of_steps(reference: &[Entry], trace: &[Entry]) -> Self {
        let numbering = Self::of(reference, trace, |at| at.seq.map(|seq| seq as u64));
        let by_position = positions::renumbered(reference, trace);
        if by_position.is_empty() {
            return numbering;
        }
        // Of several requests with numbers of their own, none stands for all.
        let mut different = by_position.values();
        let first = different.next().filter(|first| different.all(|other| other == *first));
        Self { renumbered: first.cloned().unwrap_or_default(), by_position, ..numbering }
    }

    /// The place of a record of the trace with the number that the reference gives its step; `None` if the reference
    /// does not have the step.
    pub(super) fn in_reference(&self, position: Position) -> Option<Position> {
        let (Some(seq), Some(steps)) = (position.seq, self.by_position.get(&position.request)) else {
            return Some(position);
        };
        let seq = steps.get(&(seq as u64)).and_then(|seq| usize::try_from(*seq).ok())?;
        Some(Position { seq: Some(seq), ..position })
    }

    fn of(reference: &[Entry], trace: &[Entry], number: impl Fn(&Position) -> Option<u64>) -> Self {
        let numbers = |side: &[Entry]| {
            let mut numbers = BTreeSet::new();
            let mut last = None;
            for found in side.iter().filter(|entry| !entry.kind.label.is_weight()).map(|entry| number(&entry.position))
            {
                if found != last {
                    numbers.extend(found);
                    last = found;
                }
            }
            numbers
        };
        let (reference, trace) = (numbers(reference), numbers(trace));
        let mut renumbered = HashMap::new();
        if reference.len() == trace.len() && reference != trace {
            let by_rank = || trace.iter().copied().zip(reference.iter().copied());
            // A number that both sides have must mean the same step on both.
            if by_rank().all(|(theirs, ours)| theirs == ours || !reference.contains(&theirs)) {
                renumbered = by_rank().collect();
            }
        }
        Self { reference, trace, renumbered, by_position: HashMap::new() }
    }

    fn may_be_one(&self, reference: Option<u64>, trace: Option<u64>) -> bool {
        match (reference, trace) {
            (Some(reference), Some(trace)) => {
                let is_same = reference == trace && self.by_position.is_empty();
                is_same || self.renumbered.get(&trace) == Some(&reference)
            }
            _ => true,
        }
    }

    /// Whether the first two records of a group belong to the first step of their runs, as far as that is known.
    fn begin(&self, first: Option<(&Entry, &Entry)>) -> bool {
        let is_first = |numbers: &BTreeSet<u64>, entry: &Entry| {
            entry.position.seq.is_none_or(|seq| numbers.first() == Some(&(seq as u64)))
        };
        first.is_some_and(|(left, right)| is_first(&self.reference, left) && is_first(&self.trace, right))
    }
}
