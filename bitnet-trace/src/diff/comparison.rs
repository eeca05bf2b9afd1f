//! What comparing two traces found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::key::Key;
use super::verdict::{Cause, Difference, Origin, Verdict};

/// Every pair of two traces, in execution order.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The pairs, in the reference's execution order; what only the trace has stands where it was
    /// made.
    pub pairs: Vec<Pair>,
    /// How many pairs there are of each verdict.
    pub counts: BTreeMap<&'static str, usize>,
    /// Index of the first pair that does not match.
    pub first: Option<usize>,
    /// The relative L2 error that would have had to be allowed for all pairs to match; none where no
    /// tolerance would do, or nothing says.
    pub smallest_tolerance: Option<f64>,
    /// The sides have other steps and were compared token by token.
    pub by_token: bool,
    /// Records that the map leaves out, of reference and trace.
    pub ignored: [usize; 2],
    /// Files and lines that could not be read, and values that are missing or damaged.
    pub problems: Vec<String>,
    /// Records that only one side has are no difference.
    #[serde(skip)]
    pub(crate) only_common: bool,
}

/// A record of each side.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// What they have in common.
    #[serde(flatten)]
    pub key: Key,
    /// What is said of them.
    pub verdict: Verdict,
    /// More, for all that is not identical.
    #[serde(flatten)]
    pub details: Option<Box<Details>>,
}

/// How a pair differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    /// The records' names on the two sides.
    pub names: [Option<String>; 2],
    /// Their dimensions.
    pub shapes: [Option<Vec<usize>>; 2],
    /// Their types.
    pub dtypes: [Option<String>; 2],
    /// Root mean squares.
    pub rms: [Option<f64>; 2],
    /// `file:line function` of the annotated function: the trace's, or the reference's.
    pub site: Option<String>,
    /// The numbers.
    pub difference: Option<Difference>,
    /// What the numbers show.
    pub cause: Option<Cause>,
    /// Whether this stage made the error.
    pub origin: Option<Origin>,
    /// Its error over the largest error of the stages before it; none where there was none.
    pub gain: Option<f64>,
    /// What stood in the way of comparing.
    pub note: Option<String>,
}

impl Comparison {
    /// The first pair that does not match, in execution order.
    #[must_use]
    pub fn first_divergence(&self) -> Option<&Pair> {
        self.first.and_then(|first| self.pairs.get(first))
    }

    /// How many pairs have a verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts.get(verdict.name()).copied().unwrap_or(0)
    }

    /// Pairs that have a record on both sides.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.pairs.len() - self.count(Verdict::OnlyReference) - self.count(Verdict::OnlyTrace)
    }

    /// True if something was compared and all of it matches. Two traces without a common record do
    /// not match.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.compared() > 0 && self.first.is_none()
    }

    /// Panics unless the traces match, with the screen of the first divergence.
    ///
    /// # Panics
    ///
    /// If they do not match, or nothing was compared.
    #[track_caller]
    pub fn assert_match(&self) {
        assert!(self.matches(), "the traces do not match\n\n{self}");
    }

    pub(crate) fn is_difference(&self, verdict: Verdict) -> bool {
        let alone = matches!(verdict, Verdict::OnlyReference | Verdict::OnlyTrace);
        !(verdict.matches() || alone && self.only_common)
    }
}

/// The screen of the first divergence, without colours.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::report::Screen { comparison: self, names: ["reference", "trace"], all: false }.fmt(f)
    }
}
