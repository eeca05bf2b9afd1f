//! Sizes that the definition of the digest fixes.

/// Number of elements in a sub-block: their lanes are folded together before the next sub-block begins.
pub(super) const SUB_BLOCK: usize = 4096;

/// Number of sums in a sketch, and of elements in one of its rows.
pub(super) const BUCKETS: usize = 64;
