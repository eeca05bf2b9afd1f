//! What comparing two traces found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::adaptation::{Adapted, Coverage, Suggestion};
use super::key::Key;
use super::tolerance::Needed;
use super::verdict::{Cause, Difference, Origin, Verdict};

/// Every pair of two traces, in execution order.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// What the comparison comes to.
    pub(crate) conclusion: Conclusion,
    /// The pairs, in the reference's execution order; what only the trace has stands where it was
    /// made.
    pub pairs: Vec<Pair>,
    /// How many pairs there are of each verdict.
    pub counts: BTreeMap<&'static str, usize>,
    /// Index of the first pair of two records that do not match. Records without a partner, and pairs
    /// that could not be compared, are [`coverage`](Self::coverage).
    pub first: Option<usize>,
    /// The records that only one side has, and the pairs that could not be compared, by stage.
    pub coverage: Vec<Coverage>,
    /// How records were brought together whose keys or forms differ.
    pub adaptations: Vec<Adapted>,
    /// Stages without a partner that are probably the same under another name.
    pub suggestions: Vec<Suggestion>,
    /// The relative L2 error that would have had to be allowed for all compared pairs to match; none
    /// where the rules have other limits too, no limit would do, or nothing says.
    pub smallest_tolerance: Option<f64>,
    /// What would let more be compared.
    pub hints: Vec<String>,
    /// How many captured tensors of each side were read.
    #[serde(skip)]
    #[cfg_attr(not(test), allow(dead_code))] // held to by a test
    pub(crate) reads: [usize; 2],
    /// Records of several tokens that could not be taken apart.
    #[serde(skip)]
    pub(crate) whole: usize,
    /// The smallest limits, of the kinds that the rules have, with which all compared pairs would have
    /// matched; none where no limit would do, or nothing says.
    pub smallest_limits: Option<Needed>,
    /// The sides have other steps and were compared token by token.
    pub by_token: bool,
    /// Records that the map leaves out, of reference and trace.
    pub ignored: [usize; 2],
    /// Files and lines that could not be read, and values that are missing or damaged.
    pub problems: Vec<String>,
    /// Records that only one side has are no difference.
    pub only_common: bool,
}

/// A record of each side.
#[derive(Debug, Clone, Serialize)]
pub struct Pair {
    /// What they have in common.
    #[serde(flatten)]
    pub key: Key,
    /// What is said of them.
    pub verdict: Verdict,
    /// False where the records do not hold what it takes to compare them: the verdict then is
    /// `diverged` because nothing shows that they match, and the pair is no divergence.
    pub compared: bool,
    /// More, for all that is not identical.
    #[serde(flatten)]
    pub details: Option<Box<Details>>,
}

/// How a pair differs.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
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
    /// Elements that are not finite, on the two sides.
    #[serde(skip)]
    pub(crate) nonfinite: [usize; 2],
    /// The type of fewer digits (`BF16`, `F16`) that holds the extremes of an `F32` record exactly:
    /// as a rule all of it was computed in that type.
    #[serde(skip)]
    pub(crate) computed_in: [Option<&'static str>; 2],
}

impl Comparison {
    /// The first pair of two records that do not match, in execution order.
    #[must_use]
    pub fn first_divergence(&self) -> Option<&Pair> {
        self.first.and_then(|first| self.pairs.get(first))
    }

    /// How many pairs have a verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts.get(verdict.name()).copied().unwrap_or(0)
    }

    /// Pairs of two records that were compared.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.compared).count()
    }

    /// Pairs of two records that do not hold what it takes to compare them.
    #[must_use]
    pub fn not_compared(&self) -> usize {
        self.pairs.len() - self.compared() - self.without_partner()
    }

    /// Records that only one side has.
    #[must_use]
    pub fn without_partner(&self) -> usize {
        self.count(Verdict::OnlyReference) + self.count(Verdict::OnlyTrace)
    }

    /// What the comparison comes to; the command's exit status follows it.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        self.conclusion
    }

    /// True if everything could be read and compared, matches, and every record has a partner (or only
    /// common records were asked for).
    #[must_use]
    pub fn matches(&self) -> bool {
        self.conclusion == Conclusion::Matches
    }

    /// Panics unless the traces match, with the screen of the first divergence.
    ///
    /// # Panics
    ///
    /// If they do not match, records are missing or could not be read, or nothing was compared.
    #[track_caller]
    pub fn assert_match(&self) {
        assert!(self.matches(), "the traces do not match\n\n{self}");
    }

    /// What follows from the other fields.
    pub(crate) fn conclude(&self) -> Conclusion {
        if self.first.is_some() {
            Conclusion::Differs
        } else if self.compared() == 0 {
            Conclusion::NothingCompared
        } else if !self.problems.is_empty() {
            Conclusion::NotAllRead
        } else if self.not_compared() + self.whole > 0 {
            Conclusion::NotAllCompared
        } else if self.without_partner() > 0 && !self.only_common {
            Conclusion::Missing
        } else {
            Conclusion::Matches
        }
    }
}

/// What a comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Conclusion {
    /// Everything matches, and everything could be read.
    Matches,
    /// Two records do not match.
    Differs,
    /// What was compared matches; some records have no partner.
    Missing,
    /// What was compared matches; some pairs do not hold what it takes to compare them.
    NotAllCompared,
    /// What was compared matches; something could not be read.
    NotAllRead,
    /// No two records were compared.
    NothingCompared,
}

impl Pair {
    /// Whether two records were compared, and do not match.
    #[must_use]
    pub fn is_divergence(&self) -> bool {
        self.compared && !self.verdict.matches()
    }

    /// Whether a record of the pair has elements that are not finite.
    pub(crate) fn is_nonfinite(&self) -> bool {
        self.details.as_ref().is_some_and(|details| details.nonfinite != [0, 0])
    }
}

impl Details {
    pub(crate) fn trace_has_more_nonfinite(&self) -> bool {
        self.nonfinite[1] > self.nonfinite[0]
    }
}
