//! What is kept of a record: where it stands, and what it shares with the records of other steps.

use std::sync::Arc;

use super::head::Hash;
use super::key::{Key, Label, Position};
use super::measure::Step;

/// What is kept of a record.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) position: Position,
    pub(crate) kind: Arc<Kind>,
    pub(crate) order: u64,
    pub(crate) tokens: Option<[usize; 2]>,
    pub(crate) hash: Hash,
    pub(crate) raw: Option<Box<Hash>>,
    pub(crate) place: Place,
    /// The layer was taken from the trailing number of the name.
    pub(crate) layer_from_name: bool,
    /// No record of the other side is its partner: that one computed these tokens in other steps, and
    /// this one cannot be taken apart.
    pub(crate) alone: bool,
}

/// What the records of one tensor have in common in every layer and step.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) label: Label,
    pub(crate) dtype: Box<str>,
    pub(crate) shape: Box<[usize]>,
    /// What is done to the tensor before it is compared.
    pub(crate) steps: Arc<[Step]>,
}

/// Where the whole record is: of a trace in memory `at` is its index, of files its first byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
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

    /// The key without making it.
    pub(crate) fn identity(&self) -> (Position, &Label) {
        (self.position, &self.kind.label)
    }
}
