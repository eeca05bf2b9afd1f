//! Which record belongs to which, and in what order the pairs are walked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::key::Key;
use super::side::{Entry, Side};
use super::view::Step;

/// Indices into the two sides.
pub(crate) type Aligned = (Option<usize>, Option<usize>);

/// Pairs in execution order: the reference's, with what only the trace has where the trace made it.
pub(crate) fn align(reference: &Side<'_>, trace: &Side<'_>) -> Vec<Aligned> {
    let mut partners: HashMap<&Key, usize> = HashMap::with_capacity(trace.entries.len());
    for (index, entry) in trace.entries.iter().enumerate() {
        partners.entry(&entry.key).or_insert(index);
    }
    let paired: Vec<Option<usize>> = reference.entries.iter().map(|entry| partners.remove(&entry.key)).collect();
    let alone: BTreeSet<usize> = {
        let with: std::collections::HashSet<usize> = paired.iter().flatten().copied().collect();
        (0..trace.entries.len()).filter(|index| !with.contains(index)).collect()
    };
    let mut alone = alone.into_iter().peekable();
    let mut aligned = Vec::with_capacity(reference.entries.len() + alone.len());
    for (index, partner) in paired.into_iter().enumerate() {
        while let Some(before) = partner.and_then(|partner| alone.next_if(|index| *index < partner)) {
            aligned.push((None, Some(before)));
        }
        aligned.push((Some(index), partner));
    }
    aligned.extend(alone.map(|index| (None, Some(index))));
    aligned
}

/// Where one side knows no steps (or requests) and the other has a single one, they are the same.
pub(crate) fn agree_on_steps<'a>(reference: &mut Side<'a>, trace: &mut Side<'a>) {
    let only = |side: &Side<'_>, of: &dyn Fn(&Key) -> Option<u64>| -> BTreeSet<Option<u64>> {
        side.entries
            .iter()
            .filter(|entry| entry.key.io.as_deref() != Some("weight"))
            .map(|entry| of(&entry.key))
            .collect()
    };
    let seq = |key: &Key| key.seq.map(|seq| seq as u64);
    let request = |key: &Key| key.request;
    for (of, is_seq) in [(&seq as &dyn Fn(&Key) -> Option<u64>, true), (&request, false)] {
        let (a, b) = (only(reference, of), only(trace, of));
        let none = BTreeSet::from([None]);
        let (unknowing, known) = match (a == none, b == none) {
            (true, false) => (&mut *reference, b),
            (false, true) => (&mut *trace, a),
            _ => continue,
        };
        let known: Vec<u64> = known.into_iter().flatten().collect();
        if let [one] = known[..] {
            for entry in unknowing.entries.iter_mut().filter(|entry| entry.key.io.as_deref() != Some("weight")) {
                if is_seq {
                    entry.key.seq = usize::try_from(one).ok();
                } else {
                    entry.key.request = Some(one);
                }
            }
        }
    }
}

/// A prefill of T tokens on one side against steps of fewer on the other: both sides are taken apart
/// into single tokens. False where the sides have the same steps.
pub(crate) fn by_token<'a>(reference: &mut Side<'a>, trace: &mut Side<'a>) -> bool {
    type Ranges = BTreeMap<(u32, Option<u64>), BTreeSet<[usize; 2]>>;
    let ranges = |side: &Side<'_>| {
        let mut ranges = Ranges::new();
        for entry in &side.entries {
            if let Some(tokens) = entry.tokens.filter(|[start, end]| start < end) {
                ranges.entry((entry.key.process, entry.key.request)).or_default().insert(tokens);
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

/// Most tokens that a record is taken apart into.
const MOST_TOKENS: usize = 1 << 20;

fn take_apart(side: &mut Side<'_>) {
    let whole = std::mem::take(&mut side.entries);
    for entry in whole {
        let Some([start, end]) = entry.tokens.filter(|[start, end]| start < end && end - start <= MOST_TOKENS) else {
            side.entries.push(entry);
            continue;
        };
        let count = end - start;
        for index in 0..count {
            let key = Key { seq: None, token: Some(start + index), ..entry.key.clone() };
            let steps = if count == 1 {
                Arc::clone(&entry.steps)
            } else {
                entry.steps.iter().cloned().chain([Step::Token { index, count }]).collect()
            };
            let tokens = Some([start + index, start + index + 1]);
            side.entries.push(Entry { key, steps, tokens, ..entry.clone() });
        }
    }
    side.entries.sort_by_key(|entry| (entry.key.process, entry.key.token, entry.order));
}
