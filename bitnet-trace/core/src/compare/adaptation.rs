//! How records with different keys were paired, and which records have no partner.

use std::collections::BTreeMap;
use std::fmt;

use crate::serial::impl_serde;

/// How two records were paired although their keys or the forms of their tensors differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Adaptation {
    /// The trailing number of a name without a layer was taken for its layer.
    LayerFromName,
    /// Only one side knows the steps, or the sides count them differently. The n-th record of a stage and layer was
    /// compared with the n-th of the other side.
    StepsInOrder,
    /// The same as [`StepsInOrder`](Self::StepsInOrder), for requests.
    RequestsInOrder,
    /// One side computed several tokens at once, the other in different steps. They were compared token by token.
    TokenByToken,
    /// One side has only the last token, the other all tokens. The last rows were compared.
    LastRow,
}

impl_serde! {
    Serialize for enum Adaptation {
        LayerFromName = "layer-from-name",
        StepsInOrder = "steps-in-order",
        RequestsInOrder = "requests-in-order",
        TokenByToken = "token-by-token",
        LastRow = "last-row",
    }
}

impl fmt::Display for Adaptation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LayerFromName => "the trailing number of a name was taken for its layer",
            Self::StepsInOrder => "the sides number their steps differently: the n-th records of a stage were compared",
            Self::RequestsInOrder => {
                "the sides number their requests differently: the n-th records of a stage were compared"
            }
            Self::TokenByToken => "the sides computed the tokens in different steps: they were compared token by token",
            Self::LastRow => "one side has only the last token: it was compared with the last row of the other",
        })
    }
}

/// An adaptation, and the pairs that it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adapted {
    /// How the records were paired.
    pub adaptation: Adaptation,
    /// The number of pairs.
    pub pairs: usize,
    /// The stages of these pairs, with the number of pairs of each.
    pub stages: BTreeMap<String, usize>,
}

impl_serde! { Serialize for Adapted { adaptation, pairs, stages } }

/// Which of the two traces has a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Where {
    /// Only the reference has it.
    Reference,
    /// Only the trace has it.
    Trace,
    /// Both have it, but the records do not hold enough to compare them.
    Both,
}

impl_serde! {
    Serialize for enum Where {
        Reference = "reference",
        Trace = "trace",
        Both = "both",
    }
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reference => "reference only",
            Self::Trace => "trace only",
            Self::Both => "not compared",
        })
    }
}

/// The records of one stage that were not compared: only one side has them, or they do not hold enough to compare them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Coverage {
    /// The stage with the label that tells its tensors apart: `qkv.q`, `q_proj.in.x`.
    pub stage: String,
    /// The side that has the records.
    pub side: Where,
    /// The number of records, or of pairs of records.
    pub records: usize,
    /// The layers of the records; empty if they have no layer.
    pub layers: Vec<usize>,
    /// Why records of both sides were not compared.
    pub note: Option<String>,
}

impl_serde! { Serialize for Coverage { stage, side, records, layers, note } }

/// `ffn_out: 30 layers, reference only`.
impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}, {}", self.stage, self.extent(), self.side)
    }
}

impl Coverage {
    /// `30 layers`, `30 layers, 270 records`, `2 records`.
    #[must_use]
    pub fn extent(&self) -> String {
        let count = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match (self.layers.as_slice(), self.records) {
            ([], records) => count(records, "record"),
            ([layer], 1) => format!("layer {layer}"),
            (layers, records) if layers.len() == records => count(layers.len(), "layer"),
            (layers, records) => format!("{}, {}", count(layers.len(), "layer"), count(records, "record")),
        }
    }
}

/// A stage of the reference and a stage of the trace that are probably the same: neither has a partner, they stand in
/// the same place, and their shapes are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suggestion {
    /// The stage in the reference.
    pub reference: String,
    /// The stage in the trace.
    pub trace: String,
    /// The number of records of each stage that stand in the same place.
    pub records: usize,
    /// How many of these have equal digests.
    pub identical: usize,
    /// A rule for a map file that makes them one stage.
    pub rule: String,
}

impl_serde! { Serialize for Suggestion { reference, trace, records, identical, rule } }
