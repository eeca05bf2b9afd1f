//! Finds the type in which a record was computed, which may be smaller than the type in which it was recorded.
#![allow(clippy::float_cmp)] // a type represents a number exactly, or does not

use half::{bf16, f16};

use crate::record::TraceRecord;

/// The smaller type in which an `F32` record was probably computed: the one that represents its minimum and maximum
/// exactly.
pub(crate) fn computed_in(record: &TraceRecord) -> Option<&'static str> {
    let extremes = [record.min?, record.max?];
    #[allow(clippy::cast_possible_truncation)] // extremes of f32 elements
    let holds = |round: &dyn Fn(f32) -> f32| extremes.iter().all(|value| f64::from(round(*value as f32)) == *value);
    if record.dtype != "F32" || extremes[0] == extremes[1] {
        return None;
    }
    if holds(&|value| bf16::from_f32(value).to_f32()) {
        return Some("BF16");
    }
    holds(&|value| f16::from_f32(value).to_f32()).then_some("F16")
}
