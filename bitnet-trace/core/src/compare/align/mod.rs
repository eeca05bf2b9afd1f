//! Which record belongs to which, and in what order the pairs are walked.
//!
//! Records whose keys are equal belong together. What has no partner by its key is paired as far as
//! that is unambiguous, and every such adaptation is counted by its kind:
//!
//! 1. [`layers`]: the trailing number of a name without a layer is its layer,
//! 2. [`tokens`]: a prefill against steps or chunks of the same positions, token by token,
//! 3. [`steps`]: steps or requests that only one side knows, or counts differently.

mod layers;
mod rename;
mod steps;
mod tokens;

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::adaptation::Adaptation;
use super::entry::Entry;
use super::key::{Key, Label, Position};

pub(crate) use rename::probably_the_same;

use super::side::Side;
use tokens::IsCaptured;

/// Indices into the two sides, or into the one that has the record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aligned {
    Both(usize, usize),
    Reference(usize),
    Trace(usize),
}

/// How the sides were brought together.
pub(crate) struct Alignment {
    /// Pairs in execution order: the reference's, with what only the trace has where the trace made it.
    pub(crate) pairs: Vec<Aligned>,
    /// Some records were taken apart into tokens, or aligned by their positions.
    pub(crate) by_token: bool,
    /// What stood in the way of an alignment.
    pub(crate) problems: Vec<String>,
    /// What would make an alignment possible.
    pub(crate) hints: Vec<String>,
    /// Records of several tokens that could not be taken apart.
    pub(crate) whole: usize,
}

/// Aligns two sides; records whose values were captured may be taken apart into tokens.
pub(crate) fn align(reference: &mut Side<'_>, trace: &mut Side<'_>) -> Alignment {
    let mut entries = [std::mem::take(&mut reference.entries), std::mem::take(&mut trace.entries)];
    let [left, right] = &mut entries;
    let is_captured: [IsCaptured<'_>; 2] = [&|entry| reference.has_values(entry), &|entry| trace.has_values(entry)];
    let alignment = align_entries(left, right, is_captured);
    [reference.entries, trace.entries] = entries;
    alignment
}

fn align_entries(reference: &mut Vec<Entry>, trace: &mut Vec<Entry>, is_captured: [IsCaptured<'_>; 2]) -> Alignment {
    layers::from_trailing_numbers(reference, trace);
    let tokens::Outcome { by_token, problems, hints, whole } = tokens::align_positions(reference, trace, is_captured);
    let mut partners = exact(reference, trace);
    steps::pair_in_order(reference, trace, &mut partners);
    Alignment { pairs: in_order(&partners), by_token, problems, hints, whole }
}

/// Who belongs to whom, by index.
pub(crate) struct Partners {
    /// Of each record of the reference.
    pub(crate) of_reference: Vec<Option<usize>>,
    /// Of each record of the trace.
    pub(crate) of_trace: Vec<Option<usize>>,
}

impl Partners {
    pub(crate) fn pair(&mut self, reference: usize, trace: usize) {
        self.of_reference[reference] = Some(trace);
        self.of_trace[trace] = Some(reference);
    }
}

/// Pairs records of equal keys.
fn exact(reference: &[Entry], trace: &[Entry]) -> Partners {
    let mut partners = Partners { of_reference: vec![None; reference.len()], of_trace: vec![None; trace.len()] };
    // As a rule the sides begin alike; keys are unique within a side.
    let both = reference.iter().zip(trace);
    let is_pair = |left: &Entry, right: &Entry| !(left.alone || right.alone) && left.identity() == right.identity();
    let alike = both.take_while(|(left, right)| is_pair(left, right)).count();
    (0..alike).for_each(|index| partners.pair(index, index));
    let mut by_key: HashMap<(Position, &Label), usize, RandomState> = HashMap::default();
    for (index, entry) in trace.iter().enumerate().skip(alike).filter(|(_, entry)| !entry.alone) {
        by_key.entry(entry.identity()).or_insert(index);
    }
    for (index, entry) in reference.iter().enumerate().skip(alike).filter(|(_, entry)| !entry.alone) {
        if let Some(partner) = by_key.remove(&entry.identity()) {
            partners.pair(index, partner);
        }
    }
    partners
}

fn in_order(partners: &Partners) -> Vec<Aligned> {
    let alone = partners.of_trace.iter().enumerate().filter(|(_, partner)| partner.is_none());
    let mut alone = alone.map(|(index, _)| index).peekable();
    let mut pairs = Vec::with_capacity(partners.of_reference.len());
    for (index, partner) in partners.of_reference.iter().enumerate() {
        while let Some(before) = partner.and_then(|partner| alone.next_if(|index| *index < partner)) {
            pairs.push(Aligned::Trace(before));
        }
        pairs.push(partner.map_or(Aligned::Reference(index), |partner| Aligned::Both(index, partner)));
    }
    pairs.extend(alone.map(Aligned::Trace));
    pairs
}

/// The key of a pair: what only one side knows is taken from that side.
pub(crate) fn merged(reference: &Entry, trace: &Entry) -> Key {
    let mut position = reference.position;
    position.seq = position.seq.or(trace.position.seq);
    position.request = position.request.or(trace.position.request);
    if reference.position.seq.is_none() && trace.position.seq.is_some() {
        position.call = trace.position.call;
    }
    Key::new(position, &reference.kind.label)
}

/// The adaptations that brought two records together.
pub(crate) fn adaptations<'e>(reference: &'e Entry, trace: &'e Entry) -> impl Iterator<Item = Adaptation> + use<'e> {
    let (left, right) = (reference.position, trace.position);
    [
        (reference.layer_from_name != trace.layer_from_name, Adaptation::LayerFromName),
        (left.seq != right.seq, Adaptation::StepsInOrder),
        (left.request != right.request, Adaptation::RequestsInOrder),
        (reference.is_row() || trace.is_row(), Adaptation::TokenByToken),
    ]
    .into_iter()
    .filter_map(|(made, kind)| made.then_some(kind))
}
