//! Runs a scenario: both sides, then the comparison.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bitnet_trace_core::compare::diff_paths;
use bitnet_trace_core::report::Html;
use bitnet_trace_core::trace::Manifest;

use super::directory::{Directory, REPORT, RESULT, remove, write};
use super::plan::{Plan, SIDES, Scenario};
use super::result::{Failure, ScenarioResult, SweepVerdict};
use super::template::Values;
use super::tokens::{explained, generated_differ, given_differ, would_leave};

/// The result that an earlier sweep has left, if it belongs to this plan.
pub(crate) fn finished(plan: &Plan, scenario: &Scenario, out: &Directory) -> Option<ScenarioResult> {
    let directory = out.of(&scenario.name);
    let text = fs::read_to_string(directory.join(RESULT)).ok()?;
    let result = ScenarioResult::from_file(&text, &plan.fingerprint(scenario))?;
    let linked = result.report.is_none() || directory.join(REPORT).is_file();
    (linked && result.name == scenario.name).then_some(result)
}

/// Runs a scenario and writes its `result.json`. Whatever fails is part of the result.
pub(crate) fn run(plan: &Plan, scenario: &Scenario, out: &Directory) -> ScenarioResult {
    let start = Instant::now();
    let directory = out.of(&scenario.name);
    let mut result =
        attempt(plan, scenario, &directory).unwrap_or_else(|failure| ScenarioResult::failed(&scenario.name, failure));
    result.seconds = start.elapsed().as_secs_f64();
    let text = result.to_file(&plan.fingerprint(scenario));
    if let Err(reason) = text.and_then(|text| write(&directory.join(RESULT), &text)) {
        result.notes.push(reason);
    }
    result
}

fn attempt(plan: &Plan, scenario: &Scenario, directory: &Path) -> Result<ScenarioResult, Failure> {
    prepare(directory).map_err(Failure::of_comparison)?;
    let traces = SIDES.map(|side| directory.join(side));
    for (at, (side, name)) in plan.sides.iter().zip(SIDES).enumerate() {
        let log = log_of(directory, name);
        let reference = (at > 0).then_some(&*traces[0]);
        let values = Values { scenario, dir: &traces[at], reference };
        let failed = |reason| Failure::of_side(name, reason, &log);
        side.run(&values, &log, &plan.directory).map_err(failed)?;
        if !traces[at].is_dir() {
            return Err(failed(format!(
                "recorded nothing: {} does not exist; is the program built with tracing, and does it heed BITNET_TRACE_DIR?",
                traces[at].display()
            )));
        }
    }
    compare(plan, scenario, directory, &traces)
}

/// Removes what an earlier attempt left. The result goes first: without it, the scenario is not finished.
fn prepare(directory: &Path) -> Result<(), String> {
    fs::create_dir_all(directory).map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
    let of_sides = SIDES.iter().flat_map(|side| [log_of(directory, side), directory.join(side)]);
    [RESULT, REPORT].iter().map(|name| directory.join(name)).chain(of_sides).try_for_each(|path| remove(&path))
}

fn log_of(directory: &Path, side: &str) -> PathBuf {
    directory.join(format!("{side}.log"))
}

fn compare(
    plan: &Plan,
    scenario: &Scenario,
    directory: &Path,
    [reference, trace]: &[PathBuf; 2],
) -> Result<ScenarioResult, Failure> {
    // A damaged run.json does not stop the comparison.
    let manifests = [reference, trace].map(|path| Manifest::open(path).ok().flatten());
    let both = match &manifests {
        [Some(reference), Some(trace)] => Some([reference, trace]),
        _ => None,
    };
    if let Some(note) = both.and_then(given_differ) {
        let failure = Failure::of_comparison(String::new());
        return Ok(ScenarioResult {
            verdict: SweepVerdict::TokensDiffer,
            failure: None,
            notes: vec![note],
            ..ScenarioResult::failed(&scenario.name, failure)
        });
    }
    let comparison = diff_paths(reference, trace, &plan.options, &mut |_, _| {})
        .map_err(|error| Failure::of_comparison(error.full()))?;
    let mut result = ScenarioResult::of(&scenario.name, &comparison);
    if let Some((manifests, (at, note))) = both.and_then(|both| Some((both, generated_differ(both)?))) {
        // With forced tokens both sides computed the same ones, whatever they would have chosen.
        if !plan.forced && !explained(&comparison, manifests, at) {
            result.verdict = SweepVerdict::TokensDiffer;
            result.first = None;
        }
        result.notes.push(note);
    }
    result.notes.extend(both.filter(|_| plan.forced).and_then(would_leave));
    let names = SIDES.map(|side| format!("{}/{side}", scenario.name));
    let html = Html::new(&comparison)
        .with_names([&names[0], &names[1]])
        .with_manifests([manifests[0].as_ref(), manifests[1].as_ref()]);
    write(&directory.join(REPORT), &html.to_string()).map_err(Failure::of_comparison)?;
    result.report = Some(format!("{}/{REPORT}", scenario.name));
    Ok(result)
}
