//! Whether a trace is what it says it is.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use crate::fingerprint::{Wanted, fingerprint};
use crate::paths::JSONL;
use crate::read::{self, Trace, manifest_of};
use crate::record::TraceRecord;

/// What checking a trace found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verification {
    /// Records that could be read.
    pub records: usize,
    /// Records whose captured values were hashed and measured again.
    pub values: usize,
    /// Whether every run in it ended cleanly; none where there is no `run.json`.
    pub complete: Option<bool>,
    /// Annotated functions in the binaries.
    pub sites: u64,
    /// Of these, what was never called: stage, file and line. No fault of the trace.
    pub unreached: Vec<String>,
    /// What is wrong.
    pub findings: Vec<String>,
}

/// Checks a trace directory or a `.jsonl` file: did the run end, is every record there, are captured
/// values what was hashed and measured? `progress` is called with the records done and there are.
///
/// # Errors
///
/// If nothing of it can be read.
pub fn verify(path: impl AsRef<Path>, progress: &mut dyn FnMut(usize, usize)) -> Result<Verification, Error> {
    let path = path.as_ref();
    let mut found = Verification::default();
    if path.is_file() {
        check(&Trace::open(path)?, &mut found, progress);
        return Ok(found);
    }
    for place in read::places(path)? {
        let trace = Trace::read_directory(&place)?;
        if trace.records().is_empty() && trace.problems().is_empty() && !place.join("run.json").exists() {
            continue;
        }
        check_run(&place, trace.records().len() as u64, &mut found);
        check(&trace, &mut found, progress);
    }
    if found.records == 0 && found.findings.is_empty() {
        return Err(Error::NothingToRead(path.to_owned()));
    }
    Ok(found)
}

/// What `run.json` says against what is there.
fn check_run(place: &Path, there: u64, found: &mut Verification) {
    let run = manifest_of(place);
    let name = place.join("run.json");
    let name = name.display();
    if run.is_null() {
        found.findings.push(format!("{name}: missing, or not JSON"));
        return;
    }
    let complete = run["complete"] == true;
    found.complete = Some(complete && found.complete != Some(false));
    if !complete {
        found.findings.push(format!("{name}: the run did not end cleanly, or goes on"));
    }
    if let Some(written) = run["records"].as_u64()
        && (complete && written != there || written > there)
    {
        let files = if place.join(JSONL).exists() { JSONL } else { ".trace files" };
        found.findings.push(format!("{name}: {written} records were written, the {files} hold {there}"));
    }
    for loss in run["losses"].as_array().into_iter().flatten() {
        let count = loss["count"].as_u64().unwrap_or_default();
        let cause = loss["cause"].as_str().unwrap_or("no cause is given");
        found.findings.push(format!("{name}: {count} records were lost: {cause}"));
    }
    found.sites += run["sites"].as_u64().unwrap_or_default();
    for site in run["unreached"].as_array().into_iter().flatten() {
        let text = |key: &str| site[key].as_str().unwrap_or("?").to_owned();
        found.unreached.push(format!("{} ({}:{} {})", text("stage"), text("file"), site["line"], text("function")));
    }
}

fn check(trace: &Trace, found: &mut Verification, progress: &mut dyn FnMut(usize, usize)) {
    found.findings.extend(trace.problems().iter().map(ToString::to_string));
    let all = trace.records().len();
    found.records += all;
    let mut orders = BTreeSet::new();
    let mut ordered = 0;
    for (done, record) in trace.records().iter().enumerate() {
        if let Some(order) = record.order {
            ordered += 1;
            if !orders.insert(order) {
                found.findings.push(format!("{}: order {order} is there twice", record.name));
            }
        }
        let elements = record.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if elements != Some(record.num_elements) {
            found.findings.push(format!(
                "{}: the shape {:?} has not {} elements",
                record.name, record.shape, record.num_elements
            ));
        }
        match trace.values(record) {
            Ok(Some(tensor)) => {
                found.values += 1;
                if let Some(wrong) = wrong(record, &tensor) {
                    found.findings.push(format!("{}: {wrong}", record.name));
                }
            }
            Ok(None) if record.values.is_some() => {
                found.findings.push(format!("{}: its values are not there", record.name));
            }
            Ok(None) => {}
            Err(problem) => found.findings.push(problem.to_string()),
        }
        progress(done + 1, all);
    }
    if let Some(last) = orders.last()
        && *last >= ordered
    {
        let missing = last + 1 - orders.len() as u64;
        found.findings.push(format!("{missing} records are missing from the order, which goes to {last}"));
    }
}

/// How the values differ from their record, if they do.
fn wrong(record: &TraceRecord, tensor: &candle_core::Tensor) -> Option<String> {
    let again = match fingerprint(tensor, Wanted::default()) {
        Ok(again) => again,
        Err(error) => return Some(error.to_string()),
    };
    let hash = again.blake3.to_hex();
    if hash.as_str() != record.blake3 {
        return Some(format!("its values have the hash {hash}, the record says {}", record.blake3));
    }
    let rms = again.statistics.rms();
    #[allow(clippy::float_cmp)] // the same computation
    let same = rms == record.rms || !rms.is_finite() && record.rms.is_nan();
    (!same).then(|| format!("its values have rms {rms}, the record says {}", record.rms))
}
