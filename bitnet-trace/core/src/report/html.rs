//! Writes a comparison as one HTML file that needs no network.

use std::collections::HashMap;
use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use crate::compare::{Adapted, Comparison, Coverage, Key, Pair, Verdict, stage_of};
use crate::record::filter::SYNTAX;
use crate::trace::Manifest;

use super::screen::Fields;

/// The number of differing pairs whose details are in the page. Pairs beyond have only their numbers there.
const DETAILED: usize = 2_000;

/// The page of a comparison: a heat map of layers and stages for every step, the growth of the error,
/// the details of each pair, the two runs side by side.
#[derive(Debug, Clone, Copy)]
pub struct Html<'a> {
    comparison: &'a Comparison,
    names: [&'a str; 2],
    manifests: [Option<&'a Manifest>; 2],
}

impl<'a> Html<'a> {
    /// The page of a comparison. The sides are named `reference` and `trace`.
    #[must_use]
    pub fn new(comparison: &'a Comparison) -> Self {
        Self { comparison, names: ["reference", "trace"], manifests: [None, None] }
    }

    /// Replaces the names of reference and trace.
    #[must_use]
    pub fn with_names(self, names: [&'a str; 2]) -> Self {
        Self { names, ..self }
    }

    /// Adds the `run.json` of reference and trace; `None` if a side has none.
    #[must_use]
    pub fn with_manifests(self, manifests: [Option<&'a Manifest>; 2]) -> Self {
        Self { manifests, ..self }
    }
}

/// The verdict that the page shows for pairs that could not be compared.
const NOT_COMPARED: &str = "not compared";

/// The page. The style sheet, the scripts and the data replace elements of it: see [`parts`].
const PAGE: &str = include_str!("page.html");

/// A part of the page, which replaces an element of `page.html`.
struct PagePart<'a> {
    element: &'static str,
    open: &'static str,
    content: &'a str,
    close: &'static str,
}

/// The parts of the page in their order.
fn parts(data: &str) -> [PagePart<'_>; 6] {
    const DATA: &str = r#"<script id="data" type="application/json">"#;
    let style = |element, content| PagePart { element, open: "<style>\n", content, close: "</style>" };
    let script = |element, content| PagePart { element, open: "<script>\n", content, close: "</script>" };
    [
        style(r#"<link rel="stylesheet" href="page.css">"#, include_str!("page.css")),
        PagePart { element: DATA, open: DATA, content: data, close: "" },
        script(r#"<script src="filter.js"></script>"#, include_str!("filter.js")),
        script(r#"<script src="map.js"></script>"#, include_str!("map.js")),
        script(r#"<script src="growth.js"></script>"#, include_str!("growth.js")),
        script(r#"<script src="page.js"></script>"#, include_str!("page.js")),
    ]
}

impl fmt::Display for Html<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The data stands inside a script element and must not contain its end tag.
        let data = self.data().to_string().replace('<', "\\u003c");
        let mut rest = PAGE;
        for PagePart { element, open, content, close } in parts(&data) {
            let (before, after) = rest.split_once(element).unwrap_or((rest, ""));
            write!(f, "{before}{open}{content}{close}")?;
            rest = after;
        }
        f.write_str(rest)
    }
}

/// Entries that many pairs share. Each is kept once, and pairs hold its number.
#[derive(Default)]
struct Shared {
    known: HashMap<Value, usize>,
    list: Vec<Value>,
}

impl Shared {
    fn number(&mut self, entry: Value) -> usize {
        let list = &mut self.list;
        *self.known.entry(entry).or_insert_with_key(|entry| {
            list.push(entry.clone());
            list.len() - 1
        })
    }
}

impl Html<'_> {
    fn data(&self) -> Value {
        let comparison = self.comparison;
        let (mut steps, mut stages) = (Shared::default(), Shared::default());
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
                row(pair, [steps.number(step(&pair.key)), stages.number(stage(&pair.key))], number)
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
            "verdicts": Verdict::ALL.iter().map(|verdict| verdict.name()).chain([NOT_COMPARED]).collect::<Vec<_>>(),
            "smallestTolerance": comparison.smallest_limits.map(|needed| needed.to_string()),
            "byToken": comparison.by_token,
            "problems": comparison.problems,
            "filterSyntax": SYNTAX,
            "steps": steps.list,
            "stages": stages.list,
            "pairs": pairs,
            "details": details,
        })
    }
}

/// A step: its name, and its numbers for the filter. The numbers are texts, because JavaScript's numbers do not hold
/// every 64-bit integer.
fn step(key: &Key) -> Value {
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
    json!([step, key.seq.map(|seq| seq.to_string()), key.request.map(|request| request.to_string())])
}

/// A row of the map: the stage with the label that tells its tensors apart. The stage alone and the io are for the
/// filter.
fn stage(key: &Key) -> Value {
    let mut label = stage_of(key);
    if key.call > 0 {
        // Writing to a String does not fail.
        let _ = write!(label, "#{}", key.call);
    }
    label.push_str(key.mark());
    json!([label, &*key.stage, key.io.as_deref().unwrap_or("out")])
}

fn coverage(coverage: &Coverage) -> Value {
    let Coverage { stage, side, records, note, .. } = coverage;
    json!({ "stage": stage, "side": side, "records": records, "layers": coverage.extent(), "note": note })
}

fn adapted(adapted: &Adapted) -> Value {
    json!({ "text": adapted.adaptation.to_string(), "pairs": adapted.pairs, "stages": adapted.stages })
}

/// A pair as step, layer, stage, verdict, error, gain and details. All are numbers, because there may be many pairs.
fn row(pair: &Pair, [step, stage]: [usize; 2], details: Option<usize>) -> Value {
    let verdict = Verdict::ALL.iter().position(|verdict| *verdict == pair.verdict);
    // A pair that could not be compared is not shown as diverged.
    let verdict = if pair.compared || pair.verdict.has_no_partner() { verdict } else { Some(Verdict::ALL.len()) };
    let found = pair.details.as_deref();
    let error = found.and_then(|details| details.difference.as_ref()).and_then(|difference| difference.rel_l2);
    // JSON has no infinity.
    let error = error.map(|error| error.min(f64::MAX));
    json!([step, pair.key.layer, stage, verdict, error, found.and_then(|details| details.gain), details])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Html, PAGE, PagePart, parts, stage, step};
    use crate::compare::{Key, Tolerance, diff};
    use crate::trace::Trace;

    #[test]
    fn every_file_of_the_page_takes_its_place_once() {
        for PagePart { element, content, .. } in parts("") {
            assert_eq!(PAGE.matches(element).count(), 1, "{element}");
            // Nothing in a file ends the element that holds it, or begins a comment that hides the end.
            for ending in ["</script", "</style", "<!--", "<script"] {
                assert!(!content.contains(ending), "{ending} in the content of {element}");
            }
        }
        let trace = Trace::default();
        let comparison = diff(&trace, &trace, &Tolerance::default());
        let html = Html { comparison: &comparison, names: ["</script><b>", "a"], manifests: [None, None] };
        let page = html.to_string();
        for PagePart { content, .. } in parts("\"pairs\":[]") {
            assert_eq!(page.matches(content).count(), 1);
        }
        assert!(page.ends_with("</html>\n"));
        // The page loads no file, and the data contains no tag.
        assert!(!page.contains("src=\"") && !page.contains("<link") && !page.contains("<b>"), "{page}");
        assert!(page.contains(r#""names":["\u003c/script>\u003cb>","a"]"#));
    }

    #[test]
    fn steps_and_stages_hold_what_a_filter_asks_for() {
        let mut key = Key {
            process: 2,
            request: Some(u64::MAX),
            seq: Some(3),
            token: Some(40),
            layer: None,
            stage: "q_proj".into(),
            output: Some("x".into()),
            io: Some("in".into()),
            call: 1,
        };
        assert_eq!(step(&key), json!(["process 2 request 18446744073709551615 token 40", "3", "18446744073709551615"]));
        assert_eq!(stage(&key), json!(["q_proj.in.x#1", "q_proj", "in"]));
        key = Key { process: 0, request: None, seq: None, token: None, output: None, io: None, call: 0, ..key };
        assert_eq!(step(&key), json!(["-", null, null]));
        assert_eq!(stage(&key), json!(["q_proj", "q_proj", "out"]));
        key = Key { stage: "fc1.weight".into(), io: Some("grad".into()), call: 2, ..key };
        assert_eq!(stage(&key), json!(["fc1.weight#2 (gradient)", "fc1.weight", "grad"]));
    }
}
