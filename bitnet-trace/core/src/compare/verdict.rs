//! What a comparison says: of a pair, of the pair's numbers, of what caused them.

use std::fmt;

use serde::Serialize;

/// What is said of a pair of records, exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The same elements: the hashes are equal.
    Identical,
    /// They differ by no more than the tolerance.
    Within,
    /// They differ by more than the tolerance, or by an amount that the records cannot tell.
    Diverged,
    /// Other dimensions, beyond dimensions of size 1.
    Shape,
    /// Floating point against integers.
    Dtype,
    /// NaN or infinite elements that the other side has not, or has elsewhere.
    Nonfinite,
    /// The trace has no such record.
    OnlyReference,
    /// The reference has no such record.
    OnlyTrace,
}

impl Verdict {
    /// All of them, in the order of a summary.
    pub const ALL: [Self; 8] = [
        Self::Identical,
        Self::Within,
        Self::Diverged,
        Self::Shape,
        Self::Dtype,
        Self::Nonfinite,
        Self::OnlyReference,
        Self::OnlyTrace,
    ];

    /// Identical or within the tolerance.
    #[must_use]
    pub fn matches(self) -> bool {
        matches!(self, Self::Identical | Self::Within)
    }

    /// Whether only one side has the record.
    #[must_use]
    pub fn has_no_partner(self) -> bool {
        matches!(self, Self::OnlyReference | Self::OnlyTrace)
    }

    /// As it is written: `only-reference`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Identical => "identical",
            Self::Within => "within",
            Self::Diverged => "diverged",
            Self::Shape => "shape",
            Self::Dtype => "dtype",
            Self::Nonfinite => "nonfinite",
            Self::OnlyReference => "only-reference",
            Self::OnlyTrace => "only-trace",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What the numbers of a difference come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Every element of both sides.
    Values,
    /// The sketches: an estimate, within 20 % in 95 of 100 cases.
    Sketch,
    /// Hash, rms, mean, min and max: they show that the sides differ, not how close they are.
    Statistics,
}

/// One element on both sides.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Element {
    /// Its place, slowest dimension first.
    pub index: Vec<usize>,
    /// The reference's value.
    pub reference: f64,
    /// The trace's value.
    pub trace: f64,
}

/// An index of some dimension, and the error there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// Index in its dimension.
    pub index: usize,
    /// Relative L2 error of this index alone.
    pub rel_l2: f64,
}

/// How two tensors differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// What the numbers come from.
    pub evidence: Evidence,
    /// L2 norm of the difference over the L2 norm of the reference. Infinite where the reference is
    /// all zero and the trace is not.
    pub rel_l2: Option<f64>,
    /// Cosine of the angle between the two; 1 for two that are all zero.
    pub cosine: Option<f64>,
    /// Largest absolute difference, and where.
    pub max_abs: Option<f64>,
    /// Where the largest absolute difference is.
    pub worst: Option<Element>,
    /// Largest difference relative to the reference's element.
    pub max_rel: Option<f64>,
    /// Where the largest relative difference is.
    pub worst_relative: Option<Element>,
    /// Mean absolute difference.
    pub mean_abs: Option<f64>,
    /// Largest distance in units in the last place of the sides' own type, among elements of equal
    /// sign; `None` where there are none, or the sides are not of one floating-point type.
    pub max_ulp: Option<u64>,
    /// Elements that are not bit-equal.
    pub differing: Option<usize>,
    /// The share of elements that are bit-equal.
    pub bit_equal: Option<f64>,
    /// The type (`F16`, `BF16`) to which both sides can be rounded without any difference left.
    pub rounding: Option<&'static str>,
    /// The worst tokens (indices of the last dimension but one), worst first.
    pub tokens: Vec<Share>,
    /// The worst channels (indices of the last dimension), worst first.
    pub channels: Vec<Share>,
    /// Rows of the last dimension whose digests differ, where only digests are there.
    pub rows: Option<Vec<usize>>,
}

impl Difference {
    pub(crate) fn unknown(evidence: Evidence) -> Self {
        Self {
            evidence,
            rel_l2: None,
            cosine: None,
            max_abs: None,
            worst: None,
            max_rel: None,
            worst_relative: None,
            mean_abs: None,
            max_ulp: None,
            differing: None,
            bit_equal: None,
            rounding: None,
            tokens: Vec::new(),
            channels: Vec::new(),
            rows: None,
        }
    }
}

/// A cause that the numbers show. None is given where they could mean something else.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cause {
    /// Every element of the trace is zero.
    AllZero,
    /// The trace has NaN or infinite elements that the reference has not, and no earlier pair differs in
    /// them.
    NonfiniteBorn,
    /// NaN or infinite elements that an earlier stage had too.
    NonfiniteInherited,
    /// The trace is the reference times this factor.
    Ratio(f64),
    /// Every element has the other sign.
    SignFlipped,
    /// These few elements have the other sign, all others are equal.
    SignsFlipped(usize),
    /// The trace is the reference with these two dimensions exchanged.
    Transposed(usize, usize),
    /// The same elements in another order.
    Permuted,
    /// Row t of the trace is the reference's row t minus this.
    ShiftedByTokens(i64),
    /// The trace's elements are the reference's rounded to this type.
    RoundedTo(&'static str),
    /// The difference vanishes when both are rounded to the smaller of their types.
    Rounding(&'static str),
    /// It is, element for element, what the reference has in this record.
    Equals(String),
    /// The stage was not recorded: it did not run, or under another name.
    MissingStage,
    /// The same elements in the same order under other dimensions.
    Reshaped,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllZero => write!(f, "every element is zero"),
            Self::NonfiniteBorn => write!(
                f,
                "NaN or infinite elements that the reference has not arise here: no earlier pair differs in them"
            ),
            Self::NonfiniteInherited => write!(f, "NaN or infinite elements were there in an earlier stage"),
            Self::Ratio(ratio) => {
                write!(
                    f,
                    "a constant factor: the trace is the reference times {ratio:.6}; a scale is missing or applied twice"
                )
            }
            Self::SignFlipped => write!(f, "every element has the other sign"),
            Self::SignsFlipped(1) => write!(f, "one element has the other sign, all others are equal"),
            Self::SignsFlipped(count) => write!(f, "{count} elements have the other sign, all others are equal"),
            Self::Transposed(a, b) => write!(f, "dimensions {a} and {b} are exchanged"),
            Self::Permuted => write!(f, "the same elements in another order"),
            Self::ShiftedByTokens(by) if *by > 0 => write!(f, "shifted: token t has the reference's token t - {by}"),
            Self::ShiftedByTokens(by) => write!(f, "shifted: token t has the reference's token t + {}", by.abs()),
            Self::RoundedTo(dtype) => write!(f, "the trace's elements are the reference's rounded to {dtype}"),
            Self::Rounding(dtype) => write!(f, "rounding: nothing is left when both are rounded to {dtype}"),
            Self::Equals(name) => write!(f, "it is, element for element, the reference's {name}"),
            Self::Reshaped => write!(f, "a reshape: the same elements in the same order under other dimensions"),
            Self::MissingStage => write!(f, "the stage was not recorded: it did not run, or has another name"),
        }
    }
}

/// Whether a stage made its error or was given it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Origin {
    /// Its recorded inputs are identical: it is the culprit.
    InputsMatch,
    /// A recorded input diverged already.
    InputsDiffer,
    /// Its recorded inputs are within the tolerance, and its error is many times theirs.
    GainJumps,
    /// Without recorded inputs: all that was compared before is identical.
    BeforeIdentical,
    /// Without recorded inputs: its error is many times that of every stage before.
    ErrorJumps,
    /// As the two before, but stages without a partner lie between.
    Between,
    /// Its error is no jump over those of its inputs, or of the stages before.
    ErrorWasThere,
}

impl Origin {
    /// True where the stage itself is at fault, as far as can be told.
    #[must_use]
    pub fn is_here(self) -> bool {
        matches!(self, Self::InputsMatch | Self::GainJumps | Self::BeforeIdentical | Self::ErrorJumps)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InputsMatch => "caused here: its recorded inputs are identical",
            Self::InputsDiffer => "inherited: a recorded input diverged already",
            Self::GainJumps => "caused here: its error is many times that of its recorded inputs",
            Self::BeforeIdentical => {
                "caused here: all that was compared before is identical (record `inputs(..)` to be sure)"
            }
            Self::ErrorJumps => "caused here, by the jump of the error (record `inputs(..)` to be sure)",
            Self::Between => "arises here, or in a stage without a partner before it",
            Self::ErrorWasThere => "inherited or accumulated: no jump over the errors before it",
        })
    }
}
