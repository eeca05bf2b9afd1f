//! In which type a record was computed, whatever type it was recorded in.
#![allow(clippy::float_cmp)] // a type holds a number exactly or not

use half::{bf16, f16};

use crate::record::TraceRecord;

/// The type of fewer digits in which an `F32` record was computed, as far as its extremes tell.
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
