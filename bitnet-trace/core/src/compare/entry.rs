//! What is kept of a record in memory during a comparison.

use std::sync::Arc;

use super::head::Hash;
use super::key::{Key, Label, Position};
use super::measure::Step;

/// What is kept of a record: its key, its digest, and where the rest of it is.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) kind: Arc<Kind>,
    pub(crate) order: u64,
    pub(crate) tokens: Option<[usize; 2]>,
    pub(crate) hash: Hash,
    pub(crate) raw: Option<Box<Hash>>,
    pub(crate) place: Location,
    /// Whether the layer was taken from the trailing number of the name.
    pub(crate) layer_from_name: bool,
    /// Whether the record must not get a partner: the other side computed its tokens in different steps, and it cannot
    /// be split.
    pub(crate) alone: bool,
}

/// What the records of one tensor have in common in all layers and steps. It is kept once for all of them.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) label: Label,
    pub(crate) dtype: Box<str>,
    pub(crate) shape: Box<[usize]>,
    /// The steps that make the tensor comparable.
    pub(crate) steps: Arc<[Step]>,
}

/// Where the whole record is. In a trace in memory `at` is the index of the record, in a file its first byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Location {
    pub(crate) file: u32,
    pub(crate) length: u32,
    pub(crate) at: u64,
}

impl Entry {
    pub(crate) fn key(&self) -> Key {
        Key::new(self.position, &self.kind.label)
    }

    /// Whether the entry is one row of its record.
    pub(crate) fn is_row(&self) -> bool {
        matches!(self.kind.steps.last(), Some(Step::Row { .. }))
    }

    /// The parts of the key, borrowed.
    pub(crate) fn identity(&self) -> (Position, &Label) {
        (self.position, &self.kind.label)
    }
}
