//! Finds stages without a partner that are probably the same stage under two names.

use std::collections::{BTreeMap, HashMap, HashSet};

use foldhash::fast::RandomState;

use super::super::adaptation::Suggestion;
use super::super::entry::Entry;
use super::super::head::Hash;
use super::super::measure::{is_float, squeezed};
use super::Aligned;

/// Suggests pairs of stages, one of the reference and one of the trace, that never have a partner. Wherever the two
/// occur, they stand between the same pairs and have the same shape, and they are either the only records there or have
/// equal elements.
pub(crate) fn probably_the_same(reference: &[Entry], trace: &[Entry], pairs: &[Aligned]) -> Vec<Suggestion> {
    let mut paired: [HashSet<&str>; 2] = Default::default();
    for pair in pairs {
        if let Aligned::Both(left, right) = pair {
            paired[0].insert(&reference[*left].kind.label.stage);
            paired[1].insert(&trace[*right].kind.label.stage);
        }
    }
    let mut votes: Votes<'_> = BTreeMap::new();
    let mut gap: [Vec<&Entry>; 2] = Default::default();
    for pair in pairs {
        match pair {
            Aligned::Reference(index) => gap[0].push(&reference[*index]),
            Aligned::Trace(index) => gap[1].push(&trace[*index]),
            Aligned::Both(..) => {
                vote(&gap, &mut votes);
                gap.iter_mut().for_each(Vec::clear);
            }
        }
    }
    vote(&gap, &mut votes);
    let mut partners: [HashMap<&str, usize>; 2] = Default::default();
    for (left, right) in votes.keys() {
        *partners[0].entry(left).or_default() += 1;
        *partners[1].entry(right).or_default() += 1;
    }
    let is_paired = |side: usize, stage: &str| paired[side].contains(stage);
    let suggestions = votes.into_iter().filter(|((left, right), _)| {
        partners[0][left] == 1 && partners[1][right] == 1 && !is_paired(0, left) && !is_paired(1, right)
    });
    suggestions.filter_map(|((left, right), vote)| vote.suggestion(left, right)).collect()
}

/// The votes for two stages being the same, by the stage of the reference and the stage of the trace.
type Votes<'e> = BTreeMap<(&'e str, &'e str), Vote>;

#[derive(Default)]
struct Vote {
    records: usize,
    identical: usize,
    /// Whether the names in the reference end in the number of the layer.
    numbered: bool,
}

impl Vote {
    /// `None` if a name cannot be written as a pattern.
    fn suggestion(self, reference: &str, trace: &str) -> Option<Suggestion> {
        if reference.contains(['*', '{', '"', '\\']) || trace.contains(['"', '\\']) {
            return None;
        }
        let layer = if self.numbered { "-{layer}" } else { "" };
        let rule = format!("[[map]]\nfrom = \"{reference}{layer}\"\nto = \"{trace}\"");
        let Self { records, identical, .. } = self;
        Some(Suggestion { reference: reference.to_owned(), trace: trace.to_owned(), records, identical, rule })
    }
}

/// Pairs of records with equal elements, if each side has exactly one such record.
fn equal_ones<'e>(left: &[&'e Entry], right: &[&'e Entry]) -> Vec<(&'e Entry, &'e Entry)> {
    let mut by_digest: HashMap<&Hash, [Vec<&'e Entry>; 2], RandomState> = HashMap::default();
    for (side, entries) in [left, right].into_iter().enumerate() {
        for entry in entries.iter().filter(|entry| entry.hash.is_digest()) {
            by_digest.entry(&entry.hash).or_default()[side].push(entry);
        }
    }
    let couple = |[left, right]: [Vec<&'e Entry>; 2]| match (&left[..], &right[..]) {
        ([one], [other]) => Some((*one, *other)),
        _ => None,
    };
    by_digest.into_values().filter_map(couple).collect()
}

/// Counts a vote for the two records of a gap that has one on each side. In a larger gap, records with equal elements
/// get votes. A gap is the records without a partner between two pairs.
fn vote<'e>(gap: &[Vec<&'e Entry>; 2], votes: &mut Votes<'e>) {
    let [left, right] = gap;
    if left.is_empty() || right.is_empty() {
        return;
    }
    let same_form = |a: &Entry, b: &Entry| {
        squeezed(&a.kind.shape) == squeezed(&b.kind.shape) && is_float(&a.kind.dtype) == is_float(&b.kind.dtype)
    };
    // If there are several, only equal elements show which belong together.
    let couples: Vec<(&'e Entry, &'e Entry)> = match (&left[..], &right[..]) {
        ([one], [other]) => vec![(one, other)],
        _ => equal_ones(left, right),
    };
    for (one, other) in couples.into_iter().filter(|(one, other)| same_form(one, other)) {
        let (a, b) = (&one.kind.label, &other.kind.label);
        let same_place = one.position.layer == other.position.layer && (&a.output, &a.io) == (&b.output, &b.io);
        // Weights with different names are different weights, and so are those that gradients belong to.
        if same_place && !a.is_named_tensor() && a.stage != b.stage {
            let vote = votes.entry((&a.stage, &b.stage)).or_default();
            vote.records += 1;
            vote.identical += usize::from(one.hash.proves_equal(&other.hash));
            vote.numbered |= one.layer_from_name;
        }
    }
}
