//! The result of a scenario, and the exit code that follows from all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use bitnet_trace_core::compare::{Comparison, Conclusion, Pair};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::side::end_of;
use crate::outcome::{DIFFERS, FAILED};

/// The version of `result.json`.
const SCHEMA: &str = "bitnet-trace/sweep-result/1";

/// The result of a scenario.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ScenarioResult {
    pub(crate) name: String,
    pub(crate) verdict: SweepVerdict,
    /// The first divergence.
    pub(crate) first: Option<First>,
    /// The number of pairs that were compared.
    pub(crate) compared: usize,
    /// The number of pairs with each verdict.
    pub(crate) counts: BTreeMap<String, usize>,
    /// The smallest limits with which every pair would have matched, as an object and as in a rule.
    pub(crate) smallest_limits: Value,
    pub(crate) needed_tolerance: Option<String>,
    pub(crate) failure: Option<Failure>,
    /// What else the user should know, such as tokens that differ.
    pub(crate) notes: Vec<String>,
    /// The report, relative to the directory of the sweep.
    pub(crate) report: Option<String>,
    pub(crate) seconds: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SweepVerdict {
    Match,
    Diverged,
    Missing,
    NotAllCompared,
    NotAllRead,
    NothingCompared,
    /// The sides computed different tokens, so that their tensors cannot be compared.
    TokensDiffer,
    /// A side failed, or the sides could not be compared.
    Failed,
}

/// The first divergence of a scenario, as far as the table shows it. The report has the rest.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct First {
    pub(crate) name: String,
    pub(crate) stage: String,
    pub(crate) seq: Option<usize>,
    pub(crate) layer: Option<usize>,
    pub(crate) verdict: String,
    pub(crate) rel_l2: Option<f64>,
    pub(crate) max_abs: Option<f64>,
    pub(crate) site: Option<String>,
    pub(crate) origin: Value,
}

/// Why a scenario has no comparison.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// The side that failed; `None` if both ran and the comparison failed.
    pub(crate) side: Option<String>,
    pub(crate) reason: String,
    /// The last lines of the side's log.
    pub(crate) log: Vec<String>,
}

impl Failure {
    pub(crate) fn of_side(side: &str, reason: String, log: &Path) -> Self {
        Self { side: Some(side.to_owned()), reason, log: end_of(log) }
    }

    pub(crate) fn of_comparison(reason: String) -> Self {
        Self { side: None, reason, log: Vec::new() }
    }

    /// `trace did not end within 2m and was killed`
    pub(crate) fn message(&self) -> String {
        self.side.as_ref().map_or_else(|| self.reason.clone(), |side| format!("{side} {}", self.reason))
    }
}

/// `result.json`: a result with the fingerprint of the plan that it belongs to.
#[derive(Serialize, Deserialize)]
struct ResultFile {
    schema: String,
    fingerprint: String,
    #[serde(flatten)]
    result: ScenarioResult,
}

impl ScenarioResult {
    pub(crate) fn failed(name: &str, failure: Failure) -> Self {
        Self {
            name: name.to_owned(),
            verdict: SweepVerdict::Failed,
            first: None,
            compared: 0,
            counts: BTreeMap::new(),
            smallest_limits: Value::Null,
            needed_tolerance: None,
            failure: Some(failure),
            notes: Vec::new(),
            report: None,
            seconds: 0.0,
        }
    }

    pub(crate) fn of(name: &str, comparison: &Comparison) -> Self {
        let limits = comparison.smallest_limits;
        Self {
            name: name.to_owned(),
            verdict: SweepVerdict::of(comparison.conclusion()),
            first: comparison.first_divergence().map(First::of),
            compared: comparison.compared(),
            counts: comparison.counts.iter().map(|(verdict, count)| ((*verdict).to_owned(), *count)).collect(),
            smallest_limits: serde_json::to_value(limits).unwrap_or_default(),
            needed_tolerance: limits.map(|limits| limits.to_string()).filter(|limits| !limits.is_empty()),
            failure: None,
            notes: comparison.problems.clone(),
            report: None,
            seconds: 0.0,
        }
    }

    /// The text of `result.json`.
    pub(crate) fn to_file(&self, fingerprint: &str) -> Result<String, String> {
        let file = ResultFile { schema: SCHEMA.into(), fingerprint: fingerprint.into(), result: self.clone() };
        serde_json::to_string_pretty(&file).map_err(|error| error.to_string())
    }

    /// The result in a `result.json`, unless it belongs to another plan or is of no use: a side that failed may succeed
    /// the next time.
    pub(crate) fn from_file(text: &str, fingerprint: &str) -> Option<Self> {
        let file: ResultFile = serde_json::from_str(text).ok()?;
        let fits = file.schema == SCHEMA && file.fingerprint == fingerprint;
        (fits && file.result.verdict != SweepVerdict::Failed).then_some(file.result)
    }
}

impl First {
    fn of(pair: &Pair) -> Self {
        let details = pair.details.as_deref();
        let difference = details.and_then(|details| details.difference.as_ref());
        Self {
            name: pair.key.to_string(),
            stage: pair.key.stage.to_string(),
            seq: pair.key.seq,
            layer: pair.key.layer,
            verdict: pair.verdict.name().to_owned(),
            rel_l2: difference.and_then(|difference| difference.rel_l2),
            max_abs: difference.and_then(|difference| difference.max_abs),
            site: details.and_then(|details| details.site.clone()),
            origin: details.and_then(|details| serde_json::to_value(details.origin).ok()).unwrap_or_default(),
        }
    }
}

impl SweepVerdict {
    pub(crate) const ALL: [Self; 8] = [
        Self::Match,
        Self::Diverged,
        Self::TokensDiffer,
        Self::Missing,
        Self::NotAllCompared,
        Self::NotAllRead,
        Self::NothingCompared,
        Self::Failed,
    ];

    fn of(conclusion: Conclusion) -> Self {
        match conclusion {
            Conclusion::Matches => Self::Match,
            Conclusion::Differs => Self::Diverged,
            Conclusion::Missing => Self::Missing,
            Conclusion::NotAllCompared => Self::NotAllCompared,
            Conclusion::NotAllRead => Self::NotAllRead,
            // A conclusion that this command does not know is no success.
            _ => Self::NothingCompared,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Match => "match",
            Self::Diverged => "diverged",
            Self::Missing => "records missing",
            Self::NotAllCompared => "not all compared",
            Self::NotAllRead => "not all read",
            Self::NothingCompared => "nothing compared",
            Self::TokensDiffer => "tokens differ",
            Self::Failed => "failed",
        }
    }
}

/// As `diff` ends: 1 if something diverged, else 2 if something failed or could not be read, else 1 if something is
/// missing or could not be compared, else 0.
pub(crate) fn exit_code(results: &[ScenarioResult]) -> u8 {
    use SweepVerdict as V;
    let any = |verdicts: &[V]| results.iter().any(|result| verdicts.contains(&result.verdict));
    if any(&[V::Diverged, V::TokensDiffer]) {
        DIFFERS
    } else if any(&[V::Failed, V::NothingCompared, V::NotAllRead]) {
        FAILED
    } else {
        u8::from(any(&[V::Missing, V::NotAllCompared])) * DIFFERS
    }
}

/// `5 scenarios: 3 match, 2 diverged`
pub(crate) fn summary(results: &[ScenarioResult]) -> String {
    let count = |verdict| results.iter().filter(|result| result.verdict == verdict).count();
    let counts = SweepVerdict::ALL.map(|verdict| (count(verdict), verdict.words()));
    let counts: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect();
    let s = if results.len() == 1 { "" } else { "s" };
    format!("{} scenario{s}: {}", results.len(), counts.join(", "))
}

/// The exit code as the process ends with it.
pub(crate) fn exit(results: &[ScenarioResult]) -> ExitCode {
    ExitCode::from(exit_code(results))
}

#[cfg(test)]
mod tests {
    use super::{Failure, ScenarioResult, SweepVerdict as V, exit_code, summary};

    fn results(verdicts: &[V]) -> Vec<ScenarioResult> {
        let result = |verdict: &V| ScenarioResult {
            verdict: *verdict,
            ..ScenarioResult::failed("a", Failure::of_comparison("x".to_owned()))
        };
        verdicts.iter().map(result).collect()
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        for (verdicts, expected) in [
            (&[V::Match, V::Match][..], 0),
            (&[V::Match, V::Missing], 1),
            (&[V::Match, V::NotAllCompared], 1),
            (&[V::Missing, V::Failed], 2),
            (&[V::NothingCompared], 2),
            (&[V::NotAllRead], 2),
            (&[V::Failed, V::Diverged], 1),
            (&[V::TokensDiffer, V::Match], 1),
        ] {
            assert_eq!(exit_code(&results(verdicts)), expected, "{verdicts:?}");
        }
        assert_eq!(summary(&results(&[V::Failed, V::Match, V::Failed])), "3 scenarios: 1 match, 2 failed");
    }

    #[test]
    fn a_result_of_another_plan_and_a_failure_are_not_taken_again() {
        for (verdict, fingerprint, taken) in
            [(V::Match, "a", true), (V::Diverged, "a", true), (V::Match, "b", false), (V::Failed, "a", false)]
        {
            let text = results(&[verdict])[0].to_file("a").expect("JSON");
            let found = ScenarioResult::from_file(&text, fingerprint);
            assert_eq!(found.map(|result| result.verdict), taken.then_some(verdict));
            assert!(ScenarioResult::from_file(&text[..text.len() / 2], fingerprint).is_none());
        }
    }
}
