//! A comparison as one HTML file that asks no network for anything.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::compare::{Adapted, Comparison, Coverage, Pair, Verdict, stage_of};

use crate::trace::Manifest;

use super::screen::Fields;

/// Differing pairs whose details are in the page; of those beyond, the numbers are.
const DETAILED: usize = 2_000;

/// The page of a comparison: a heat map of layers and stages for every step, the growth of the error,
/// the details of each pair, the two runs side by side.
#[derive(Debug, Clone, Copy)]
pub struct Html<'a> {
    /// What was found.
    pub comparison: &'a Comparison,
    /// What the two sides are called.
    pub names: [&'a str; 2],
    /// What the `run.json` of each side says; `None` where there is none.
    pub manifests: [Option<&'a Manifest>; 2],
}

/// What the page calls pairs that could not be compared.
const NOT_COMPARED: &str = "not compared";

/// The page; the data takes the place of a line in it.
const PAGE: &str = include_str!("page.html");
const PLACE: &str = "\"the comparison\"";

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = PAGE.split_once(PLACE).unwrap_or((PAGE, ""));
        // Inside a script nothing may look like its end.
        let data = self.data().to_string().replace('<', "\\u003c");
        write!(f, "{before}{data}{after}")
    }
}

/// Texts that many pairs share, kept once.
#[derive(Default)]
struct Texts {
    known: HashMap<String, usize>,
    list: Vec<String>,
}

impl Texts {
    fn number(&mut self, text: String) -> usize {
        let list = &mut self.list;
        *self.known.entry(text).or_insert_with_key(|text| {
            list.push(text.clone());
            list.len() - 1
        })
    }
}

impl Html<'_> {
    fn data(&self) -> Value {
        let comparison = self.comparison;
        let mut stages = Texts::default();
        let mut details = Vec::new();
        let pairs: Vec<Value> = comparison
            .pairs
            .iter()
            .map(|pair| {
                let number = if !pair.verdict.matches() && details.len() < DETAILED {
                    details.push(pair.details.as_ref().map(|details| Fields(details).to_string()));
                    Some(details.len() - 1)
                } else {
                    None
                };
                row(pair, stages.number(stage(pair)), number)
            })
            .collect();
        json!({
            "names": self.names,
            "manifests": self.manifests,
            "matches": comparison.matches(),
            "conclusion": comparison.conclusion(),
            "onlyCommon": comparison.only_common,
            "coverage": comparison.coverage.iter().map(coverage).collect::<Vec<_>>(),
            "adaptations": comparison.adaptations.iter().map(adapted).collect::<Vec<_>>(),
            "suggestions": comparison.suggestions,
            "hints": comparison.hints,
            "compared": comparison.compared(),
            "first": comparison.first,
            "verdicts": Verdict::ALL.map(Verdict::name).into_iter().chain([NOT_COMPARED]).collect::<Vec<_>>(),
            "smallestTolerance": comparison.smallest_limits.map(|needed| needed.to_string()),
            "byToken": comparison.by_token,
            "problems": comparison.problems,
            "stages": stages.list,
            "pairs": pairs,
            "details": details,
        })
    }
}

/// The row of the heat map: the stage with what tells its tensors apart.
fn stage(pair: &Pair) -> String {
    let mut stage = stage_of(&pair.key);
    if pair.key.call > 0 {
        // Writing to a String does not fail.
        let _ = write!(stage, "#{}", pair.key.call);
    }
    stage
}

fn coverage(coverage: &Coverage) -> Value {
    let Coverage { stage, side, records, note, .. } = coverage;
    json!({ "stage": stage, "side": side, "records": records, "layers": coverage.extent(), "note": note })
}

fn adapted(adapted: &Adapted) -> Value {
    json!({ "text": adapted.adaptation.to_string(), "pairs": adapted.pairs, "stages": adapted.stages })
}

/// Step, layer, stage, verdict, error, gain, details: numbers, as there may be many.
fn row(pair: &Pair, stage: usize, details: Option<usize>) -> Value {
    let key = &pair.key;
    let mut step = match (key.token, key.seq) {
        (Some(token), _) => format!("token {token}"),
        (None, Some(seq)) => format!("t{seq}"),
        (None, None) => "-".to_owned(),
    };
    if let Some(request) = key.request {
        step = format!("request {request} {step}");
    }
    if key.process > 0 {
        step = format!("process {} {step}", key.process);
    }
    let verdict = Verdict::ALL.iter().position(|verdict| *verdict == pair.verdict);
    // Nothing shows that such a pair differs.
    let verdict = if pair.compared || pair.verdict.has_no_partner() { verdict } else { Some(Verdict::ALL.len()) };
    let found = pair.details.as_deref();
    let error = found.and_then(|details| details.difference.as_ref()).and_then(|difference| difference.rel_l2);
    // JSON has no infinity.
    let error = error.map(|error| error.min(f64::MAX));
    json!([step, key.layer, stage, verdict, error, found.and_then(|details| details.gain), details])
}
