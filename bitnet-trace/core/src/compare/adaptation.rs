//! How records whose keys differ were brought together, and what has no partner at all.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Why two records whose keys differ, or whose tensors have other forms, were compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Adaptation {
    /// The trailing number of a name without a layer was taken for its layer.
    LayerFromName,
    /// The steps are known on one side only, or counted differently: the n-th record of a stage and
    /// layer was compared with the n-th.
    StepsInOrder,
    /// The same for requests.
    RequestsInOrder,
    /// One side computed several tokens at once that the other computed in other steps.
    TokenByToken,
    /// One side has the last token alone, the other one all tokens: the last row was compared.
    LastRow,
}

impl fmt::Display for Adaptation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LayerFromName => "the trailing number of a name was taken for its layer",
            Self::StepsInOrder => "the sides know or count steps differently: the n-th record of a stage with the n-th",
            Self::RequestsInOrder => {
                "the sides know or count requests differently: the n-th record of a stage with the n-th"
            }
            Self::TokenByToken => "the sides computed the tokens in other steps: token by token",
            Self::LastRow => "one side has the last token only: its record with the last row of the other's",
        })
    }
}

/// An adaptation, and the pairs that it was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Adapted {
    /// What was done.
    pub adaptation: Adaptation,
    /// The number of pairs.
    pub pairs: usize,
    /// The stages of these pairs, with the number of pairs of each.
    pub stages: BTreeMap<String, usize>,
}

/// Which of the two traces has a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// The reference alone.
    Reference,
    /// The trace alone.
    Trace,
    /// Both, and their records do not hold what it takes to compare them.
    Both,
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

/// The records of one stage that were not compared: only one side has them, or they do not hold what
/// it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Coverage {
    /// The stage, with what tells its tensors apart: `qkv.q`, `q_proj.in.x`.
    pub stage: String,
    /// Which side has them.
    pub side: Where,
    /// How many records, or pairs of records.
    pub records: usize,
    /// The layers that they are of; empty for records without a layer.
    pub layers: Vec<usize>,
    /// Why records of both sides were not compared.
    pub note: Option<String>,
}

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

/// A stage of the reference and one of the trace that are probably the same: neither has a partner,
/// they stand in the same place, and their shapes are equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Suggestion {
    /// The stage in the reference.
    pub reference: String,
    /// The stage in the trace.
    pub trace: String,
    /// How many records of each stand in the same place.
    pub records: usize,
    /// How many of these are equal by their digests.
    pub identical: usize,
    /// The rule of a map file that makes them one stage.
    pub rule: String,
}
