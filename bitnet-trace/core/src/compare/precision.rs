//! Finds the type in which a record was computed, which may be smaller than the type in which it was recorded.
#![allow(clippy::float_cmp)] // a type represents a number exactly, or does not

use crate::digest::float16::{to_bf16, to_f16};
use crate::record::TraceRecord;

/// The smaller type in which an `F32` record was probably computed: the one that represents its minimum and maximum
/// exactly.
pub(crate) fn computed_in(record: &TraceRecord) -> Option<&'static str> {
    let extremes = [record.min?, record.max?];
    let holds = |round: fn(f64) -> f64| extremes.iter().all(|value| round(*value) == *value);
    if record.dtype != "F32" || extremes[0] == extremes[1] {
        return None;
    }
    if holds(to_bf16) {
        return Some("BF16");
    }
    holds(to_f16).then_some("F16")
}
