//! Entries that a map of names leaves out although both sides have them.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::builder::in_order;
use super::entry::Entry;
use super::key::Label;
use super::side::Side;

/// The layers and labels of a side.
type LayerLabels = HashSet<(Option<usize>, Label), RandomState>;

/// Takes entries that the map leaves out back into the comparison if the other side has them too: no rule separates a
/// record from its partner.
pub(crate) fn restore_shared<'a>(reference: &mut Side<'a>, trace: &mut Side<'a>) {
    if reference.left_out.is_empty() && trace.left_out.is_empty() {
        return;
    }
    let stage = |entry: &Entry| (entry.position.layer, entry.kind.label.clone());
    let stages = |side: &Side<'_>| -> LayerLabels { side.entries.iter().chain(&side.left_out).map(stage).collect() };
    let (of_reference, of_trace) = (stages(reference), stages(trace));
    for (side, other) in [(reference, of_trace), (trace, of_reference)] {
        let (mut back, out) =
            std::mem::take(&mut side.left_out).into_iter().partition(|entry| other.contains(&stage(entry)));
        side.left_out = out;
        side.entries.append(&mut back);
        in_order(&mut side.entries);
    }
}
