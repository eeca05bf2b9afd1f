//! The record floor: the facts that a trace holds about tensors and runs, and their names.
//!
//! [`TraceRecord`] is one JSON object per tensor and [`Manifest`] is `run.json`. `name` makes and parses the
//! names of records, `layout` has the names of files in a trace directory, `filter` decides which records are
//! wanted, and `pattern` is the matcher that filters, tolerance rules and name maps share. Writers and readers
//! of traces both use this floor, so that each name and format is defined once.
//!
//! It imports only `digest`, `serial` and the error type.

pub(crate) mod filter;
pub(crate) mod layout;
pub(crate) mod manifest;
pub(crate) mod name;
pub(crate) mod nearest;
pub(crate) mod pattern;

pub use manifest::{Function, Loss, Manifest};
pub(crate) use name::parts_of;
pub use name::record_name;

use serde_core::{Deserialize, Deserializer, Serialize, Serializer};

use crate::serial::impl_serde;

/// The record of one tensor at one point of a run.
///
/// It also reads the records of the earlier tracer: their six fields are required, all other fields are
/// optional, and unknown fields are ignored. Floats that are not finite are written as `null`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TraceRecord {
    /// `t{seq}/blk{layer}/{stage}`, then the argument, the label and the repeat number.
    pub name: String,
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
    /// The type of the tensor's elements, as [`Dtype::name`](crate::digest::Dtype::name) gives it: `F32`, `BF16`, ...
    pub dtype: String,
    /// BLAKE3-256 of the elements as little-endian f32 in row-major order, 64 hex digits.
    pub blake3: String,
    /// Root mean square; NaN (written as `null`) if an element is not finite.
    pub rms: f64,
    /// Number of elements.
    pub num_elements: usize,

    /// 0 for prefill, 1, 2, ... for decode steps.
    pub seq_index: Option<usize>,
    /// Index of the transformer block. A negative number, which the earlier tracer wrote for "no block", is read as
    /// `None`.
    pub layer_idx: Option<usize>,
    /// The name of the computation: `q_proj`, `attn_norm`.
    pub stage: Option<String>,
    /// Position in execution order within the run, from 0.
    pub order: Option<u64>,
    /// Repeat number: how many earlier records have the same name, step, layer, stage, output and io.
    pub call: usize,
    /// The label if a function returned several tensors, or the argument's name for an input.
    pub output: Option<String>,
    /// `in` for an input, `weight` for a weight, `grad` for a gradient; `None` for a returned tensor.
    pub io: Option<String>,
    /// Number of the prompt, for programs that run several.
    pub request: Option<u64>,
    /// The token positions that the call computed: `[start, end]`, end excluded.
    pub tokens: Option<[usize; 2]>,

    /// Smallest finite element.
    pub min: Option<f64>,
    /// Largest finite element.
    pub max: Option<f64>,
    /// Mean of the finite elements.
    pub mean: Option<f64>,
    /// Number of NaN elements.
    pub nan_count: usize,
    /// Number of infinite elements.
    pub inf_count: usize,
    /// Number of elements equal to zero, of either sign.
    pub zero_count: usize,

    /// Base64 of 64 little-endian f32: sums of signed elements, from which the distance of two
    /// tensors is estimated.
    pub sketch: Option<String>,
    /// The first 8 bytes of the BLAKE3 of each row of the last dimension, as 16 hex digits.
    pub rows: Option<Vec<String>>,
    /// The safetensors file of the captured values, in the tensor's own type; a path relative to the trace
    /// directory.
    pub values: Option<String>,
    /// BLAKE3-256 of the elements as little-endian bytes of their own type; `None` for types whose values f32 holds
    /// exactly.
    pub raw_blake3: Option<String>,
    /// `file:line function` of the annotated function.
    pub site: Option<String>,
    /// The device that held the tensor; `None` for the CPU's memory.
    pub device: Option<String>,
}

impl_serde! {
    Serialize, Deserialize for TraceRecord {
        name, shape, dtype, blake3, rms as NullIsNan, num_elements, seq_index or "seq" [optional],
        layer_idx or "layer" as NegativeIsNone [optional], stage [optional], order [optional], call [optional],
        output [optional], io [optional], request [optional], tokens [optional], min [default], max [default],
        mean [default], nan_count [optional], inf_count [optional], zero_count [optional], sketch [optional],
        rows [optional], values [optional], raw_blake3 [optional], site [optional], device [optional],
    }
}

/// A number that is null in files unless it is finite.
struct NullIsNan(f64);

impl Serialize for NullIsNan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_finite() { serializer.serialize_f64(self.0) } else { serializer.serialize_none() }
    }
}

impl<'de> Deserialize<'de> for NullIsNan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(deserializer)?.unwrap_or(f64::NAN)))
    }
}

/// An index that may be negative in files, which means none.
pub(crate) struct NegativeIsNone(pub(crate) Option<usize>);

impl Serialize for NegativeIsNone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for NegativeIsNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let index: Option<i64> = Option::deserialize(deserializer)?;
        Ok(Self(index.and_then(|index| usize::try_from(index).ok())))
    }
}

#[cfg(test)]
mod tests {
    use super::TraceRecord;

    fn parse(json: &str) -> TraceRecord {
        serde_json::from_str(json).expect("a record")
    }

    /// A parser that rounds differently would change the values that were measured.
    #[test]
    fn floats_are_read_as_they_were_written() {
        let record =
            parse(r#"{"name":"a","shape":[2],"dtype":"F32","blake3":"00","rms":0.12300331964360307,"num_elements":2}"#);
        let again = serde_json::to_string(&record).expect("JSON");
        assert_eq!(record.rms.to_bits(), 0.123_003_319_643_603_07_f64.to_bits());
        assert!(again.contains("0.12300331964360307"), "{again}");
    }

    #[test]
    fn records_of_the_earlier_tracer_are_read() {
        let six = parse(r#"{"name":"a","shape":[2],"dtype":"F32","blake3":"00","rms":1.5,"num_elements":2}"#);
        assert_eq!((six.seq_index, six.layer_idx, six.order, six.call), (None, None, None, 0));
        let nine = parse(
            r#"{"name":"t0/logits","shape":[1],"dtype":"F32","blake3":"00","rms":null,"num_elements":1,
                "seq":0,"layer":-1,"stage":"logits","unknown":[1]}"#,
        );
        assert_eq!((nine.seq_index, nine.layer_idx, nine.stage.as_deref()), (Some(0), None, Some("logits")));
        assert!(nine.rms.is_nan());
    }
}
