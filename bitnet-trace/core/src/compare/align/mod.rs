//! Decides which records belong together, and the order of the pairs.
//!
//! Records with equal keys belong together. Other records are paired as far as that is unambiguous, and every such
//! adaptation is counted:
//!
//! 1. [`layers`]: the trailing number of a name without a layer is taken for its layer,
//! 2. [`tokens`]: a prefill is compared token by token with decode steps or chunks of the same positions,
//! 3. [`positions`]: the steps of a side that numbers them by positions are counted,
//! 4. [`steps`]: steps or requests that only one side knows, or that the sides count differently, are paired in order.

mod layers;
mod positions;
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

/// A pair as indices into the entries of both sides, or a record of one side as its index.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aligned {
    Both(usize, usize),
    Reference(usize),
    Trace(usize),
}

/// The result of aligning two sides.
pub(crate) struct Alignment {
    /// The pairs in the execution order of the reference. Records that only the trace has stand where the trace made
    /// them.
    pub(crate) pairs: Vec<Aligned>,
    /// Whether records were split into tokens, or aligned by their positions.
    pub(crate) by_token: bool,
    /// Why some records could not be aligned.
    pub(crate) problems: Vec<String>,
    /// What the user can do to have more records aligned.
    pub(crate) hints: Vec<String>,
    /// The number of records of several tokens that could not be split.
    pub(crate) whole: usize,
}

/// Aligns two sides. Records whose values were captured may be split into tokens.
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
    let tokens::TokenAlignment { by_token, problems, hints, whole } =
        tokens::align_positions(reference, trace, is_captured);
    let numbering = steps::Numbering::of_steps(reference, trace);
    let mut partners = exact(reference, trace, &numbering);
    steps::pair_in_order(reference, trace, &numbering, &mut partners);
    Alignment { pairs: in_order(&partners), by_token, problems, hints, whole }
}

/// The partner of each record, by index.
pub(crate) struct Partners {
    /// For each record of the reference, its partner in the trace.
    pub(crate) of_reference: Vec<Option<usize>>,
    /// For each record of the trace, its partner in the reference.
    pub(crate) of_trace: Vec<Option<usize>>,
}

impl Partners {
    pub(crate) fn pair(&mut self, reference: usize, trace: usize) {
        self.of_reference[reference] = Some(trace);
        self.of_trace[trace] = Some(reference);
    }
}

/// Pairs records with equal keys. A step of the trace has the number that the reference gives it, if that is known.
fn exact(reference: &[Entry], trace: &[Entry], numbering: &steps::Numbering) -> Partners {
    let mut partners = Partners { of_reference: vec![None; reference.len()], of_trace: vec![None; trace.len()] };
    // Most sides begin with the same records. Keys are unique within a side.
    let both = reference.iter().zip(trace);
    let theirs = |entry: &'_ Entry| numbering.in_reference(entry.position);
    let is_pair = |left: &Entry, right: &Entry| {
        let same_place = theirs(right) == Some(left.position);
        !(left.alone || right.alone) && same_place && left.kind.label == right.kind.label
    };
    let alike = both.take_while(|(left, right)| is_pair(left, right)).count();
    (0..alike).for_each(|index| partners.pair(index, index));
    let mut by_key: HashMap<(Position, &Label), usize, RandomState> = HashMap::default();
    for (index, entry) in trace.iter().enumerate().skip(alike).filter(|(_, entry)| !entry.alone) {
        if let Some(position) = theirs(entry) {
            by_key.entry((position, &entry.kind.label)).or_insert(index);
        }
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

/// The key of a pair. A part that only one side knows is taken from that side.
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
