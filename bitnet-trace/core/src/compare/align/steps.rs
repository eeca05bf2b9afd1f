//! Steps and requests that only one side knows, or that the sides count differently: the n-th record
//! of a stage and layer on one side is the n-th on the other.
//!
//! Only records that have no partner by their key are paired here, between the records that have one:
//! an order that contradicts those is no evidence.

use std::collections::{BTreeSet, HashMap, HashSet};

use foldhash::fast::RandomState;

use super::super::entry::Entry;
use super::super::head::Hash;
use super::super::key::{Label, Position};
use super::super::measure::squeezed;
use super::Partners;

/// What may differ between partners.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Relaxed {
    Request,
    Step,
    Both,
}

impl Relaxed {
    /// The key without what may differ.
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

/// Pairs what is left without a partner.
pub(crate) fn pair_in_order(reference: &[Entry], trace: &[Entry], partners: &mut Partners) {
    let steps = Numbers::of(reference, trace, |at| at.seq.map(|seq| seq as u64));
    let requests = Numbers::of(reference, trace, |at| at.request);
    for relaxed in [Relaxed::Request, Relaxed::Step, Relaxed::Both] {
        let all_paired = |side: &[Option<usize>]| side.iter().all(Option::is_some);
        if all_paired(&partners.of_reference) || all_paired(&partners.of_trace) {
            return;
        }
        let sides = Sides { reference, trace, steps: &steps, requests: &requests };
        for (left, right) in groups(reference, trace, partners, relaxed) {
            sides.pair_group(&left, &right, partners);
        }
    }
}

/// Indices of the two sides' records, in execution order.
type Group = (Vec<usize>, Vec<usize>);

/// The records that agree in all but what is relaxed, where both sides have some without a partner.
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
    steps: &'s Numbers,
    requests: &'s Numbers,
}

impl Sides<'_> {
    fn pair_group(&self, left: &[usize], right: &[usize], partners: &mut Partners) {
        let places: HashMap<usize, usize> = right.iter().enumerate().map(|(place, index)| (*index, place)).collect();
        let (mut begin, mut found) = (0, Vec::new());
        let mut alone = Vec::new();
        let mut anchored = false;
        for index in left {
            // A partner outside this group says nothing of the order in it.
            match partners.of_reference[*index].map(|partner| places.get(&partner)) {
                None => alone.push(*index),
                Some(None) => {}
                Some(Some(place)) if *place >= begin => {
                    anchored = true;
                    found.push((std::mem::take(&mut alone), begin..*place));
                    begin = place + 1;
                }
                // The partners stand in another order here than there.
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

    /// Whether the n-th of these belongs to the n-th of those.
    fn may_pair(&self, left: &[usize], right: &[usize], anchored: bool) -> bool {
        let pairs = || left.iter().zip(right).map(|(left, right)| (&self.reference[*left], &self.trace[*right]));
        if !pairs().all(|(left, right)| self.may_be_one(left, right)) {
            return false;
        }
        // One side ran for longer: both have to begin at the beginning, and agree in all shapes.
        let same_shape = |(left, right): (&Entry, &Entry)| squeezed(&left.kind.shape) == squeezed(&right.kind.shape);
        if left.len() == right.len() {
            return true;
        }
        let hashes = |side: &[Entry], indices: &[usize]| -> HashSet<_> {
            indices.iter().map(|index| side[*index].hash.clone()).filter(Hash::is_digest).collect()
        };
        let (ours, theirs) = (hashes(self.reference, left), hashes(self.trace, right));
        // One that is equal to another than its n-th says that they do not begin at the same step.
        let is_elsewhere = |(left, right): (&Entry, &Entry)| {
            !left.hash.proves_equal(&right.hash) && (theirs.contains(&left.hash) || ours.contains(&right.hash))
        };
        !anchored && self.steps.begin(pairs().next()) && pairs().all(same_shape) && !pairs().any(is_elsewhere)
    }

    fn may_be_one(&self, left: &Entry, right: &Entry) -> bool {
        let tokens = left.tokens.zip(right.tokens).is_none_or(|(left, right)| left == right);
        let seq = |entry: &Entry| entry.position.seq.map(|seq| seq as u64);
        // Of one step they are told apart by their repeat numbers.
        let (a, b) = (left.position, right.position);
        let repeats = (a.seq, a.request) != (b.seq, b.request) || a.call == b.call;
        tokens
            && repeats
            && self.steps.may_be_one(seq(left), seq(right))
            && self.requests.may_be_one(left.position.request, right.position.request)
    }
}

/// The numbers of the steps, or of the requests, that the sides know.
struct Numbers {
    reference: BTreeSet<u64>,
    trace: BTreeSet<u64>,
    /// The reference's number of each of the trace's, where the sides count the same steps differently.
    renumbered: HashMap<u64, u64>,
}

impl Numbers {
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
            // A number that both sides have has to mean the same step.
            if by_rank().all(|(theirs, ours)| theirs == ours || !reference.contains(&theirs)) {
                renumbered = by_rank().collect();
            }
        }
        Self { reference, trace, renumbered }
    }

    fn may_be_one(&self, reference: Option<u64>, trace: Option<u64>) -> bool {
        match (reference, trace) {
            (Some(reference), Some(trace)) => reference == trace || self.renumbered.get(&trace) == Some(&reference),
            _ => true,
        }
    }

    /// Whether two records that come first in a group come first in their runs too, as far as is known.
    fn begin(&self, first: Option<(&Entry, &Entry)>) -> bool {
        let is_first = |numbers: &BTreeSet<u64>, entry: &Entry| {
            entry.position.seq.is_none_or(|seq| numbers.first() == Some(&(seq as u64)))
        };
        first.is_some_and(|(left, right)| is_first(&self.reference, left) && is_first(&self.trace, right))
    }
}
