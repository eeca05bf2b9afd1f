//! Repeat numbers and places in the execution order, given out together.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use foldhash::fast::RandomState;

use crate::record::TraceRecord;

/// How often each record was made, and how many there were.
#[derive(Default)]
pub(crate) struct Repeats {
    order: u64,
    /// By step, then by hash of what else tells records apart, for the whole run: some 20 bytes for each
    /// that is different. One map for all of them would be out of the cache at every record.
    steps: HashMap<Option<usize>, HashMap<u64, u32, RandomState>, RandomState>,
}

impl Repeats {
    /// The record's repeat number and its place in the order: the later call has the larger of both.
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
