//! Which record belongs to which, and in what order the pairs are walked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::entry::{Entry, Kind};
use super::key::{Label, Position};
use super::measure::{Step, token_dimension};
use super::side::Side;

/// Indices into the two sides, or into the one that has the record.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aligned {
    Both(usize, usize),
    Reference(usize),
    Trace(usize),
}

/// Pairs in execution order: the reference's, with what only the trace has where the trace made it.
pub(crate) fn align(reference: &Side<'_>, trace: &Side<'_>) -> Vec<Aligned> {
    // As a rule the sides begin alike; keys are told apart within a side.
    let both = reference.entries.iter().zip(&trace.entries);
    let alike = both.take_while(|(left, right)| left.identity() == right.identity()).count();
    let mut partners: HashMap<(Position, &Label), usize, RandomState> = HashMap::default();
    for (index, entry) in trace.entries.iter().enumerate().skip(alike) {
        partners.entry(entry.identity()).or_insert(index);
    }
    let found = reference.entries[alike..].iter().map(|entry| partners.remove(&entry.identity()));
    let paired: Vec<Option<usize>> = (0..alike).map(Some).chain(found).collect();
    let mut with = vec![false; trace.entries.len()];
    paired.iter().flatten().for_each(|index| with[*index] = true);
    let alone: Vec<usize> = (0..trace.entries.len()).filter(|index| !with[*index]).collect();
    let mut alone = alone.into_iter().peekable();
    let mut aligned = Vec::with_capacity(reference.entries.len() + alone.len());
    for (index, partner) in paired.into_iter().enumerate() {
        while let Some(before) = partner.and_then(|partner| alone.next_if(|index| *index < partner)) {
            aligned.push(Aligned::Trace(before));
        }
        aligned.push(partner.map_or(Aligned::Reference(index), |partner| Aligned::Both(index, partner)));
    }
    aligned.extend(alone.map(Aligned::Trace));
    aligned
}

/// What the records of a side have of a number.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    None,
    One(u64),
    Several,
}

fn known(side: &Side<'_>, of: impl Fn(&Position) -> Option<u64>) -> Known {
    let mut found = None;
    for entry in side.entries.iter().filter(|entry| !entry.kind.label.is_weight()) {
        match (found, of(&entry.position)) {
            (None, number) => found = Some(number),
            (Some(before), number) if before != number => return Known::Several,
            _ => {}
        }
    }
    found.flatten().map_or(Known::None, Known::One)
}

/// Where one side knows no steps (or requests) and the other has a single one, they are the same.
pub(crate) fn agree_on_steps<'a>(reference: &mut Side<'a>, trace: &mut Side<'a>) {
    let seq = |at: &Position| at.seq.map(|seq| seq as u64);
    let set_seq = |at: &mut Position, number: u64| at.seq = usize::try_from(number).ok();
    agree(reference, trace, seq, set_seq);
    agree(reference, trace, |at| at.request, |at, number| at.request = Some(number));
}

fn agree<'a>(
    reference: &mut Side<'a>,
    trace: &mut Side<'a>,
    of: impl Fn(&Position) -> Option<u64> + Copy,
    set: impl Fn(&mut Position, u64),
) {
    let (unknowing, number) = match (known(reference, of), known(trace, of)) {
        (Known::None, Known::One(number)) => (reference, number),
        (Known::One(number), Known::None) => (trace, number),
        _ => return,
    };
    unknowing
        .entries
        .iter_mut()
        .filter(|entry| !entry.kind.label.is_weight())
        .for_each(|entry| set(&mut entry.position, number));
}

/// A prefill of T tokens on one side against steps of fewer on the other: both sides are taken apart
/// into single tokens. False where the sides have the same steps.
pub(crate) fn by_token<'a>(reference: &mut Side<'a>, trace: &mut Side<'a>) -> bool {
    type Ranges = BTreeMap<(u32, Option<u64>), BTreeSet<[usize; 2]>>;
    let ranges = |side: &Side<'_>| {
        let mut ranges = Ranges::new();
        let mut last = None;
        for entry in &side.entries {
            let of = (entry.position.process, entry.position.request);
            if let Some(tokens) = entry.tokens.filter(|[start, end]| start < end)
                && last != Some((of, tokens))
            {
                ranges.entry(of).or_default().insert(tokens);
                last = Some((of, tokens));
            }
        }
        ranges
    };
    let (a, b) = (ranges(reference), ranges(trace));
    let differ = a.iter().any(|(request, ranges)| {
        let Some(other) = b.get(request) else { return false };
        ranges != other && covered(ranges) == covered(other)
    });
    if differ {
        for side in [reference, trace] {
            take_apart(side);
        }
    }
    differ
}

/// First and last position that the ranges cover.
fn covered(ranges: &BTreeSet<[usize; 2]>) -> (Option<usize>, Option<usize>) {
    (ranges.iter().map(|range| range[0]).min(), ranges.iter().map(|range| range[1]).max())
}

/// Most tokens that a side is taken apart into: what a file claims must not take all memory.
const MOST_TOKENS: usize = 1 << 22;

fn take_apart(side: &mut Side<'_>) {
    let whole = std::mem::take(&mut side.entries);
    for entry in whole {
        let fits = |[start, end]: &[usize; 2]| {
            start < end
                && side.entries.len().saturating_add(end - start) <= MOST_TOKENS
                && token_dimension(&entry.kind.shape, end - start).is_some()
        };
        let Some([start, end]) = entry.tokens.filter(fits) else {
            side.entries.push(entry);
            continue;
        };
        let count = end - start;
        for index in 0..count {
            let position = Position { seq: None, token: Some(start + index), ..entry.position };
            let kind = if count == 1 {
                Arc::clone(&entry.kind)
            } else {
                let steps = entry.kind.steps.iter().cloned().chain([Step::Token { index, count }]).collect();
                Arc::new(Kind { steps, ..(*entry.kind).clone() })
            };
            let tokens = Some([start + index, start + index + 1]);
            side.entries.push(Entry { position, kind, tokens, ..entry.clone() });
        }
    }
    side.entries.sort_by_key(|entry| (entry.position.process, entry.position.token, entry.order));
}
