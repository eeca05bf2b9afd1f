//! Repeat numbers and places in the execution order, given out together.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use crate::record::TraceRecord;

/// Steps whose repeats are remembered; a run of any length takes no more memory than this many.
const STEPS: usize = 1024;

/// How often each record was made, and how many there were.
#[derive(Default)]
pub(crate) struct Calls {
    order: u64,
    /// By step, then by hash of what else tells records apart.
    steps: BTreeMap<Option<usize>, HashMap<u64, usize, BuildHasherDefault<Hashed>>>,
}

impl Calls {
    /// The record's repeat number and its place in the order: the later call has the larger of both.
    pub(crate) fn next(&mut self, record: &TraceRecord) -> (usize, u64) {
        let mut hasher = DefaultHasher::new();
        (&record.name, record.layer_idx, &record.stage, &record.output, &record.io).hash(&mut hasher);
        let counts = self.steps.entry(record.seq_index).or_default();
        let count = counts.entry(hasher.finish()).or_insert(0);
        let call = *count;
        *count += 1;
        if self.steps.len() > STEPS {
            self.forget_oldest_step();
        }
        let order = self.order;
        self.order += 1;
        (call, order)
    }

    /// The records without a step are never forgotten.
    fn forget_oldest_step(&mut self) {
        let oldest = self.steps.keys().find(|step| step.is_some()).copied();
        if let Some(oldest) = oldest {
            self.steps.remove(&oldest);
        }
    }
}

/// The hash of a key that is one already.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Not called for keys that are `u64`.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}
