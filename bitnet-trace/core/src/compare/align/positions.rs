//! Recognises a side that numbers its steps by the position of their first token, against one that counts them.
//!
//! A prompt of five tokens and two steps are 0, 5, 6 to the one and 0, 1, 2 to the other. In a longer run both sides have
//! the step 6, and it is not the same one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::super::entry::Entry;
use super::super::key::Label;

/// The step of the reference for each step of the trace, by request.
pub(super) type Renumbered = HashMap<Option<u64>, HashMap<u64, u64>>;

/// For each step of the trace the step of the reference, if one side numbers its steps by positions and the other
/// counts them. If both sides tell the same requests apart, each request is looked at by itself: their prompts have
/// different lengths.
pub(super) fn renumbered(reference: &[Entry], trace: &[Entry]) -> Renumbered {
    let (ours, theirs) = (steps_of(reference), steps_of(trace));
    if ours.len() > 1 && ours.keys().eq(theirs.keys()) {
        let both = ours.iter().zip(theirs.values());
        let found = both.filter_map(|((request, ours), theirs)| {
            let is_of = |entry: &Entry| entry.position.request == *request;
            Some((*request, of_request((reference, ours), (trace, theirs), is_of)?))
        });
        return found.collect();
    }
    let all = |steps: &BTreeMap<_, BTreeSet<u64>>| steps.values().flatten().copied().collect::<BTreeSet<u64>>();
    let Some(steps) = of_request((reference, &all(&ours)), (trace, &all(&theirs)), |_| true) else {
        return Renumbered::new();
    };
    theirs.keys().map(|request| (*request, steps.clone())).collect()
}

/// The same for the records of one request. The steps of a side are in ascending order.
fn of_request(
    reference: (&[Entry], &BTreeSet<u64>),
    trace: (&[Entry], &BTreeSet<u64>),
    is_of: impl Fn(&Entry) -> bool,
) -> Option<HashMap<u64, u64>> {
    let counts = |steps: &BTreeSet<u64>| gaps(steps).all(|gap| gap == 1);
    if counts(trace.1) && by_position(reference, &is_of) {
        Some(counted(trace.1, reference.1).collect())
    } else if counts(reference.1) && by_position(trace, &is_of) {
        Some(counted(reference.1, trace.1).map(|(count, position)| (position, count)).collect())
    } else {
        None
    }
}

/// The steps of a side, by request.
fn steps_of(side: &[Entry]) -> BTreeMap<Option<u64>, BTreeSet<u64>> {
    let mut steps: BTreeMap<Option<u64>, BTreeSet<u64>> = BTreeMap::new();
    let mut last = None;
    for entry in side.iter().filter(|entry| !entry.kind.label.is_weight()) {
        let Some(seq) = entry.position.seq else { continue };
        // Records of one step follow each other.
        let found = Some((entry.position.request, seq));
        if found != last {
            steps.entry(entry.position.request).or_default().insert(seq as u64);
            last = found;
        }
    }
    steps
}

/// Each counted step with the step of the other side that begins at a position. Steps are counted from 0, so that a side
/// without the prefill begins with 1; if both sides have as many steps, the one may have counted from another number.
fn counted<'s>(counts: &'s BTreeSet<u64>, positions: &'s BTreeSet<u64>) -> impl Iterator<Item = (u64, u64)> + 's {
    let first = if counts.len() == positions.len() { counts.first().copied().unwrap_or(0) } else { 0 };
    let numbered = (first..).zip(positions.iter().copied());
    numbered.filter(|(count, _)| counts.contains(count))
}

/// The distances between successive steps.
fn gaps(steps: &BTreeSet<u64>) -> impl Iterator<Item = u64> {
    steps.iter().zip(steps.iter().skip(1)).map(|(step, next)| next - step)
}

/// The steps of a tensor, each with its shape.
type Shapes<'e> = Vec<(u64, &'e [usize])>;

/// Whether there is a tensor of which each step has as many rows as its number is below that of the next step.
fn by_position((side, steps): (&[Entry], &BTreeSet<u64>), is_of: impl Fn(&Entry) -> bool) -> bool {
    // Steps that are all as far apart may be a choice of the steps, and a tensor may happen to have as many rows.
    if gaps(steps).collect::<BTreeSet<_>>().len() < 2 {
        return false;
    }
    let mut shapes: HashMap<(Option<usize>, &Label), Shapes<'_>, RandomState> = HashMap::default();
    let counts = |entry: &&Entry| entry.position.call == 0 && !entry.kind.label.is_weight() && is_of(entry);
    for entry in side.iter().filter(counts) {
        let Some(step) = entry.position.seq else { continue };
        let found = shapes.entry((entry.position.layer, &entry.kind.label)).or_default();
        found.push((step as u64, &*entry.kind.shape));
    }
    shapes.into_values().any(|mut shapes| {
        shapes.sort_unstable();
        shapes.dedup();
        let rank = shapes.first().map_or(0, |(_, shape)| shape.len());
        let in_all = shapes.iter().map(|(step, _)| step).eq(steps);
        let has_rows =
            |dim: usize| shapes.iter().zip(gaps(steps)).all(|((_, shape), gap)| usize::try_from(gap) == Ok(shape[dim]));
        in_all && shapes.iter().all(|(_, shape)| shape.len() == rank) && (0..rank).any(has_rows)
    })
}
