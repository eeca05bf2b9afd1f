//! The verdict on a pair, the numbers of its difference, its cause and its origin.

use std::fmt;

use serde_core::ser::{Serialize, SerializeTupleVariant, Serializer};

use crate::serial::impl_serde;

/// The verdict on a pair of records. Every pair has exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The elements are equal: the hashes are equal, or all values are.
    Identical,
    /// The tensors differ by no more than the tolerance.
    Within,
    /// The tensors differ by more than the tolerance, or by an amount that the records do not show.
    Diverged,
    /// The shapes differ, not counting dimensions of size 1.
    Shape,
    /// One side has floating-point numbers, the other integers.
    Dtype,
    /// One side has NaN or infinite elements that the other does not have in the same places.
    Nonfinite,
    /// Only the reference has the record.
    OnlyReference,
    /// Only the trace has the record.
    OnlyTrace,
}

impl_serde! {
    Serialize for enum Verdict {
        Identical = "identical",
        Within = "within",
        Diverged = "diverged",
        Shape = "shape",
        Dtype = "dtype",
        Nonfinite = "nonfinite",
        OnlyReference = "only-reference",
        OnlyTrace = "only-trace",
    }
}

impl Verdict {
    /// All verdicts, in the order of a summary.
    pub const ALL: &[Self] = &[
        Self::Identical,
        Self::Within,
        Self::Diverged,
        Self::Shape,
        Self::Dtype,
        Self::Nonfinite,
        Self::OnlyReference,
        Self::OnlyTrace,
    ];

    /// Whether the pair matches: it is identical or within the tolerance.
    #[must_use]
    pub fn matches(self) -> bool {
        matches!(self, Self::Identical | Self::Within)
    }

    /// Whether only one side has the record.
    #[must_use]
    pub fn has_no_partner(self) -> bool {
        matches!(self, Self::OnlyReference | Self::OnlyTrace)
    }

    /// The name of the verdict, as it is printed: `only-reference`.
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

/// The source of the numbers of a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Evidence {
    /// All elements of both sides.
    Values,
    /// The sketches. The numbers are estimates, within 20 % in 95 of 100 cases.
    Sketch,
    /// Hash, rms, mean, minimum and maximum. They show that the sides differ, but not by how much.
    Statistics,
}

impl_serde! {
    Serialize for enum Evidence {
        Values = "values",
        Sketch = "sketch",
        Statistics = "statistics",
    }
}

/// One element on both sides.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Element {
    /// The index in each dimension, slowest dimension first.
    pub index: Vec<usize>,
    /// The value in the reference.
    pub reference: f64,
    /// The value in the trace.
    pub trace: f64,
}

impl_serde! { Serialize for Element { index, reference, trace } }

/// One index of a dimension (a token or a channel), and the error of its elements.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Share {
    /// The index in its dimension.
    pub index: usize,
    /// The relative L2 error of the elements with this index.
    pub rel_l2: f64,
}

impl_serde! { Serialize for Share { index, rel_l2 } }

/// How two tensors differ. Numbers that are not known are `None`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Difference {
    /// The source of the numbers.
    pub evidence: Evidence,
    /// The L2 norm of the difference divided by the L2 norm of the reference, over the elements that are finite on both
    /// sides. Infinite if the reference is all zero and the trace is not. `None` if no element is finite on both sides.
    pub rel_l2: Option<f64>,
    /// The cosine of the angle between the two tensors, from -1 to 1; 1 if both are all zero.
    pub cosine: Option<f64>,
    /// The largest absolute difference of two elements.
    pub max_abs: Option<f64>,
    /// The elements with the largest absolute difference.
    pub worst: Option<Element>,
    /// The largest difference of two elements divided by the magnitude of the reference's element.
    pub max_rel: Option<f64>,
    /// The elements with the largest relative difference.
    pub worst_relative: Option<Element>,
    /// The mean absolute difference.
    pub mean_abs: Option<f64>,
    /// The largest distance of two elements of equal sign, in units in the last place (ULP) of their type. `None` if
    /// there are no such elements, or if the sides do not have the same floating-point type.
    pub max_ulp: Option<u64>,
    /// The number of elements that are not bit-equal.
    pub differing: Option<usize>,
    /// The share of elements that are bit-equal, from 0 to 1.
    pub bit_equal: Option<f64>,
    /// The type (`F16`, `BF16`) that makes both sides equal when they are rounded to it.
    pub rounding: Option<&'static str>,
    /// The tokens (indices of the second to last dimension) with the largest errors, worst first.
    pub tokens: Vec<Share>,
    /// The channels (indices of the last dimension) with the largest errors, worst first.
    pub channels: Vec<Share>,
    /// The indices of the rows of the last dimension whose digests differ, if only digests were recorded.
    pub rows: Option<Vec<usize>>,
}

impl_serde! {
    Serialize for Difference {
        evidence, rel_l2, cosine, max_abs, worst, max_rel, worst_relative, mean_abs, max_ulp, differing, bit_equal,
        rounding, tokens, channels, rows,
    }
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

/// A cause that the numbers show. A pair has no cause if the numbers allow another explanation.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Cause {
    /// Every element of the trace is zero.
    AllZero,
    /// The trace has NaN or infinite elements that the reference does not have, and no earlier pair differs in such
    /// elements.
    NonfiniteBorn,
    /// The trace has NaN or infinite elements, and so had an earlier stage.
    NonfiniteInherited,
    /// The trace is the reference times this factor.
    Ratio(f64),
    /// Every element has the opposite sign.
    SignFlipped,
    /// This number of elements have the opposite sign, and all others are equal.
    SignsFlipped(usize),
    /// The trace is the reference with these two dimensions exchanged.
    Transposed(usize, usize),
    /// The trace has the same elements in another order.
    Permuted,
    /// Row t of the trace is row t minus this number of the reference.
    ShiftedByTokens(i64),
    /// The elements of the trace are those of the reference, rounded to this type.
    RoundedTo(&'static str),
    /// The sides are equal when both are rounded to this type, the smaller of the two.
    Rounding(&'static str),
    /// The trace has the elements that the reference has in the record of this name.
    Equals(String),
    /// The stage was not recorded: it did not run, or it has another name.
    MissingStage,
    /// The trace has the same elements in the same order with another shape.
    Reshaped,
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const NAME: &str = "Cause";
        match self {
            Self::AllZero => serializer.serialize_unit_variant(NAME, 0, "all-zero"),
            Self::NonfiniteBorn => serializer.serialize_unit_variant(NAME, 1, "nonfinite-born"),
            Self::NonfiniteInherited => serializer.serialize_unit_variant(NAME, 2, "nonfinite-inherited"),
            Self::Ratio(ratio) => serializer.serialize_newtype_variant(NAME, 3, "ratio", ratio),
            Self::SignFlipped => serializer.serialize_unit_variant(NAME, 4, "sign-flipped"),
            Self::SignsFlipped(count) => serializer.serialize_newtype_variant(NAME, 5, "signs-flipped", count),
            Self::Transposed(a, b) => {
                let mut dimensions = serializer.serialize_tuple_variant(NAME, 6, "transposed", 2)?;
                dimensions.serialize_field(a)?;
                dimensions.serialize_field(b)?;
                dimensions.end()
            }
            Self::Permuted => serializer.serialize_unit_variant(NAME, 7, "permuted"),
            Self::ShiftedByTokens(by) => serializer.serialize_newtype_variant(NAME, 8, "shifted-by-tokens", by),
            Self::RoundedTo(dtype) => serializer.serialize_newtype_variant(NAME, 9, "rounded-to", dtype),
            Self::Rounding(dtype) => serializer.serialize_newtype_variant(NAME, 10, "rounding", dtype),
            Self::Equals(name) => serializer.serialize_newtype_variant(NAME, 11, "equals", name),
            Self::MissingStage => serializer.serialize_unit_variant(NAME, 12, "missing-stage"),
            Self::Reshaped => serializer.serialize_unit_variant(NAME, 13, "reshaped"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AllZero => write!(f, "every element is zero"),
            Self::NonfiniteBorn => write!(
                f,
                "NaN or infinite elements that the reference does not have arise here: no earlier pair differs in them"
            ),
            Self::NonfiniteInherited => write!(f, "an earlier stage already had NaN or infinite elements"),
            Self::Ratio(ratio) => {
                write!(
                    f,
                    "a constant factor: the trace is the reference times {ratio:.6}; a scale is missing or applied twice"
                )
            }
            Self::SignFlipped => write!(f, "every element has the opposite sign"),
            Self::SignsFlipped(1) => write!(f, "one element has the opposite sign, all others are equal"),
            Self::SignsFlipped(count) => write!(f, "{count} elements have the opposite sign, all others are equal"),
            Self::Transposed(a, b) => write!(f, "dimensions {a} and {b} are exchanged"),
            Self::Permuted => write!(f, "the elements are the same, in another order"),
            Self::ShiftedByTokens(by) if *by > 0 => write!(f, "shifted: token t has the reference's token t - {by}"),
            Self::ShiftedByTokens(by) => write!(f, "shifted: token t has the reference's token t + {}", by.abs()),
            Self::RoundedTo(dtype) => {
                write!(f, "the elements of the trace are those of the reference, rounded to {dtype}")
            }
            Self::Rounding(dtype) => write!(f, "rounding: the sides are equal when both are rounded to {dtype}"),
            Self::Equals(name) => write!(f, "it has, element for element, the values of the reference's {name}"),
            Self::Reshaped => write!(f, "a reshape: the same elements in the same order, with another shape"),
            Self::MissingStage => write!(f, "the stage was not recorded: it did not run, or it has another name"),
        }
    }
}

/// Where an error comes from: whether the stage made it or inherited it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// The recorded inputs are identical: the stage made the error.
    InputsMatch,
    /// A recorded input diverged already: the stage inherited the error.
    InputsDiffer,
    /// The recorded inputs are within the tolerance, and the error is many times theirs: the stage made it.
    GainJumps,
    /// Without recorded inputs: everything that was compared before is identical.
    BeforeIdentical,
    /// Without recorded inputs: the error is many times that of every stage before.
    ErrorJumps,
    /// Like the two above, but stages without a partner lie between, and may have made the error.
    Between,
    /// The error is not much larger than those of the inputs, or of the stages before.
    ErrorWasThere,
}

impl_serde! {
    Serialize for enum Origin {
        InputsMatch = "inputs-match",
        InputsDiffer = "inputs-differ",
        GainJumps = "gain-jumps",
        BeforeIdentical = "before-identical",
        ErrorJumps = "error-jumps",
        Between = "between",
        ErrorWasThere = "error-was-there",
    }
}

impl Origin {
    /// Whether the stage itself made the error, as far as the records show.
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
