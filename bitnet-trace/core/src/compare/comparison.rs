//! The result of comparing two traces.

use std::collections::BTreeMap;

use serde_core::ser::{Serialize, SerializeMap, Serializer};

use super::adaptation::{Adapted, Coverage, Suggestion};
use super::key::Key;
use super::tolerance::Needed;
use super::verdict::{Cause, Difference, Origin, Verdict};
use crate::serial::{Entries, ToFields, impl_serde};

/// The result of comparing two traces: every pair with its verdict, in execution order.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Comparison {
    /// The result as a whole.
    pub(crate) conclusion: Conclusion,
    /// The pairs in the execution order of the reference. Records that only the trace has stand where the trace made
    /// them.
    pub pairs: Vec<Pair>,
    /// The number of pairs with each verdict, by the verdict's [name](Verdict::name).
    pub counts: BTreeMap<&'static str, usize>,
    /// The index in `pairs` of the first two records that do not match. Records without a partner and pairs that could
    /// not be compared do not count; they are listed in [`coverage`](Self::coverage).
    pub first: Option<usize>,
    /// The records that only one side has, and the pairs that could not be compared, by stage.
    pub coverage: Vec<Coverage>,
    /// How records were paired although their keys or forms differ.
    pub adaptations: Vec<Adapted>,
    /// Stages without a partner that are probably the same under another name.
    pub suggestions: Vec<Suggestion>,
    /// The smallest limit of the relative L2 error with which all compared pairs would have matched. `None` if the
    /// rules also have other limits, if no limit would be enough, or if the error of a pair is not known.
    pub smallest_tolerance: Option<f64>,
    /// What the user can do to have more records compared.
    pub hints: Vec<String>,
    /// The number of captured tensors that were read, of reference and trace.
    #[cfg_attr(not(test), allow(dead_code))] // only a test reads it
    pub(crate) reads: [usize; 2],
    /// The number of records of several tokens that could not be split.
    pub(crate) whole: usize,
    /// The smallest limits, of the kinds that the rules have, with which all compared pairs would have matched. `None`
    /// if no limits would be enough, or if a number that they need is not known.
    pub smallest_limits: Option<Needed>,
    /// Whether the sides computed the tokens in different steps and were compared token by token.
    pub by_token: bool,
    /// The number of records that the map leaves out, of reference and trace.
    pub ignored: [usize; 2],
    /// The files and lines that could not be read, and the values that are missing or damaged, one message each.
    pub problems: Vec<String>,
    /// Whether records that only one side has were ignored.
    pub only_common: bool,
}

impl_serde! {
    Serialize for Comparison {
        conclusion, pairs, counts, first, coverage, adaptations, suggestions, smallest_tolerance, hints, reads [skip],
        whole [skip], smallest_limits, by_token, ignored, problems, only_common,
    }
}

/// Two records with the same key, one of each side, or a record without a partner.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Pair {
    /// The key that the records have in common.
    pub key: Key,
    /// The verdict on the pair.
    pub verdict: Verdict,
    /// False if the records do not hold enough to compare them, or if only one side has the record. Two records that
    /// could not be compared have the verdict `diverged`, because nothing shows that they match, but they do not count
    /// as a divergence.
    pub compared: bool,
    /// How the records differ; `None` if they are identical.
    pub details: Option<Box<Details>>,
}

/// One map, with the entries of the key first and those of the details last.
impl Serialize for Pair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { key, verdict, compared, details } = self;
        let mut map = serializer.serialize_map(None)?;
        key.write(&mut map)?;
        map.serialize_entry("verdict", verdict)?;
        map.serialize_entry("compared", compared)?;
        if let Some(details) = details {
            details.write(&mut Entries(&mut map))?;
        }
        map.end()
    }
}

/// How a pair differs.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Details {
    /// The names of the records, of reference and trace.
    pub names: [Option<String>; 2],
    /// The shapes, slowest dimension first, of reference and trace.
    pub shapes: [Option<Vec<usize>>; 2],
    /// The types of the elements (`F32`, `BF16`), of reference and trace.
    pub dtypes: [Option<String>; 2],
    /// The root mean squares, of reference and trace; NaN if an element is not finite.
    pub rms: [Option<f64>; 2],
    /// The annotated function as `file:line function`, in the trace if it is known there, else in the reference.
    pub site: Option<String>,
    /// The numbers of the difference; `None` if none were computed.
    pub difference: Option<Difference>,
    /// The cause, if the numbers leave only one explanation.
    pub cause: Option<Cause>,
    /// Whether this stage made the error, if that is known.
    pub origin: Option<Origin>,
    /// The error of this pair divided by the largest error before it; `None` if there was no error before it.
    pub gain: Option<f64>,
    /// Why the records could not be compared, or what limits the comparison.
    pub note: Option<String>,
    /// The number of elements that are not finite, of reference and trace.
    pub(crate) nonfinite: [usize; 2],
    /// The smaller type (`BF16`, `F16`) that represents minimum and maximum of an `F32` record exactly, of reference
    /// and trace. Such a record was very likely computed in that type.
    pub(crate) computed_in: [Option<&'static str>; 2],
}

impl_serde! {
    Serialize for Details {
        names, shapes, dtypes, rms, site, difference, cause, origin, gain, note, nonfinite [skip], computed_in [skip],
    }
}

impl Comparison {
    /// The first pair of two records that do not match, in execution order.
    #[must_use]
    pub fn first_divergence(&self) -> Option<&Pair> {
        self.first.and_then(|first| self.pairs.get(first))
    }

    /// The number of pairs with this verdict.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.counts.get(verdict.name()).copied().unwrap_or(0)
    }

    /// The number of pairs of two records that were compared.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.pairs.iter().filter(|pair| pair.compared).count()
    }

    /// The number of pairs of two records that do not hold enough to compare them.
    #[must_use]
    pub fn not_compared(&self) -> usize {
        self.pairs.len() - self.compared() - self.without_partner()
    }

    /// The number of records that only one side has.
    #[must_use]
    pub fn without_partner(&self) -> usize {
        self.count(Verdict::OnlyReference) + self.count(Verdict::OnlyTrace)
    }

    /// The result as a whole. The exit code of the command depends on it.
    #[must_use]
    pub fn conclusion(&self) -> Conclusion {
        self.conclusion
    }

    /// Whether everything could be read and compared, every pair matches, and every record has a partner. Records
    /// without a partner do not matter if they were ignored.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.conclusion == Conclusion::Matches
    }

    /// Panics with the screen of the first divergence unless the traces match.
    ///
    /// # Panics
    ///
    /// If the traces do not match, if records are missing or could not be read, or if nothing was compared.
    #[track_caller]
    pub fn assert_match(&self) {
        assert!(self.matches(), "the traces do not match\n\n{self}");
    }

    /// The conclusion that follows from the other fields.
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

/// The result of a comparison as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conclusion {
    /// Everything could be read and compared, and everything matches.
    Matches,
    /// Two records that were compared do not match.
    Differs,
    /// All compared pairs match, but some records have no partner.
    Missing,
    /// All compared pairs match, but some records do not hold enough to compare them.
    NotAllCompared,
    /// All compared pairs match, but something could not be read.
    NotAllRead,
    /// No two records were compared.
    NothingCompared,
}

impl_serde! {
    Serialize for enum Conclusion {
        Matches = "matches",
        Differs = "differs",
        Missing = "missing",
        NotAllCompared = "not-all-compared",
        NotAllRead = "not-all-read",
        NothingCompared = "nothing-compared",
    }
}

impl Pair {
    /// Whether the pair was compared and does not match.
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
