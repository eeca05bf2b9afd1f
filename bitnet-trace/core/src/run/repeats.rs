//! Assigns repeat numbers and places in the execution order.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use foldhash::fast::RandomState;

use crate::record::TraceRecord;

/// Counts how often each record was made, and how many records there were in all.
#[derive(Default)]
pub(crate) struct Repeats {
    order: u64,
    /// The counts by step, then by the hash of the other fields that identify a record. They stay for the whole run
    /// and take about 20 bytes per different record. A single map for all steps would miss the cache at every
    /// record.
    steps: HashMap<Option<usize>, HashMap<u64, u32, RandomState>, RandomState>,
}

impl Repeats {
    /// The record's repeat number and its place in the order. Both are assigned together: of two calls, the later one
    /// has the larger number in both.
    pub(crate) fn next(&mut self, record: &TraceRecord) -> (usize, u64) {
        let mut hasher = DefaultHasher::new();
        let TraceRecord { name, seq_index, layer_idx, stage, output, io, .. } = record;
        (name, layer_idx, stage, output, io).hash(&mut hasher);
        let count = self.steps.entry(*seq_index).or_default().entry(hasher.finish()).or_insert(0);
        let call = *count as usize;
        *count = count.saturating_add(1);
        let order = self.order;
        self.order += 1;
        (call, order)
    }
}
