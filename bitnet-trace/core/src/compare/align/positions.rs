//! Recognises a side that numbers its steps by the position of their first token, against one that counts them.
//!
//! A prompt of five tokens and two steps are 0, 5, 6 to the one and 0, 1, 2 to the other. In a longer run both sides have
//! the step 6, and it is not the same one.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::super::entry::Entry;
use super::super::key::Label;

/// For each step of the trace the step of the reference, if one side numbers its steps by positions and the other
/// counts them. The steps of a side are given in ascending order.
pub(super) fn renumbered(
    reference: (&[Entry], &BTreeSet<u64>),
    trace: (&[Entry], &BTreeSet<u64>),
) -> Option<HashMap<u64, u64>> {
    let counts = |steps: &BTreeSet<u64>| gaps(steps).all(|gap| gap == 1);
    let is_by_position = (counts(trace.1) && by_position(reference.0, reference.1))
        || (counts(reference.1) && by_position(trace.0, trace.1));
    is_by_position.then(|| trace.1.iter().copied().zip(reference.1.iter().copied()).collect())
}

/// The distances between successive steps.
fn gaps(steps: &BTreeSet<u64>) -> impl Iterator<Item = u64> {
    steps.iter().zip(steps.iter().skip(1)).map(|(step, next)| next - step)
}

/// The steps of a tensor, each with its shape.
type Shapes<'e> = Vec<(u64, &'e [usize])>;

/// Whether there is a tensor of which each step has as many rows as its number is below that of the next step.
fn by_position(side: &[Entry], steps: &BTreeSet<u64>) -> bool {
    // Steps that are all as far apart may be a choice of the steps, and a tensor may happen to have as many rows.
    if gaps(steps).collect::<BTreeSet<_>>().len() < 2 {
        return false;
    }
    let mut shapes: HashMap<(Option<usize>, &Label), Shapes<'_>, RandomState> = HashMap::default();
    for entry in side.iter().filter(|entry| entry.position.call == 0 && !entry.kind.label.is_weight()) {
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
