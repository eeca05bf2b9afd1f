//! Checks that a trace is complete and undamaged.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;

use crate::digest::{TensorSource, Wanted, digest};
use crate::error::Error;
use crate::record::TraceRecord;
use crate::record::layout::{JSONL, is_record};
use crate::serial::impl_serde;
use crate::trace::pieces::{ProcessDirectory, manifest_of, process_directories};
use crate::trace::{Trace, Values};

/// The result of checking a trace.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Verification {
    /// The number of records that could be read.
    pub records: usize,
    /// The number of records whose captured values were hashed and measured again.
    pub values: usize,
    /// Whether every run in the trace ended cleanly; `None` if there is no `run.json`.
    pub complete: Option<bool>,
    /// The number of annotated functions in the binaries.
    pub sites: u64,
    /// The annotated functions that were never called: stage, file, line and function. That is not a fault of the
    /// trace.
    pub unreached: Vec<String>,
    /// What is wrong with the trace, one message each.
    pub findings: Vec<String>,
}

impl_serde! { Serialize for Verification { records, values, complete, sites, unreached, findings } }

/// Checks a trace directory, a `.jsonl` file or a single `.trace` file: whether the run ended, whether every record is
/// present, and whether captured values have the digest of their record. `progress` is called with the number of
/// records checked so far and the number of all records.
///
/// # Errors
///
/// If nothing of the trace can be read.
pub fn verify(path: impl AsRef<Path>, progress: &mut dyn FnMut(usize, usize)) -> Result<Verification, Error> {
    let path = path.as_ref();
    let mut found = Verification::default();
    if path.is_file() {
        let orders = check(&Trace::open(path)?, &mut found, progress);
        // A single `.trace` file is not a run: the records before it are in other files.
        if !is_record(path) {
            check_orders(&orders, &mut found);
        }
        return Ok(found);
    }
    for ProcessDirectory { path: place, .. } in process_directories(path)? {
        let trace = Trace::read_directory(&place);
        if trace.records().is_empty() && trace.problems().is_empty() && !place.join("run.json").exists() {
            continue;
        }
        check_run(&place, trace.records().len() as u64, &mut found);
        let orders = check(&trace, &mut found, progress);
        check_orders(&orders, &mut found);
    }
    if found.records == 0 && found.findings.is_empty() {
        return Err(Error::NothingToRead(path.to_owned()));
    }
    Ok(found)
}

/// Compares `run.json` with the records that are present.
fn check_run(place: &Path, there: u64, found: &mut Verification) {
    let run = manifest_of(place);
    let name = place.join("run.json");
    let name = name.display();
    if run.is_null() {
        found.findings.push(format!("{name}: the file is missing, or is not JSON"));
        return;
    }
    let complete = run["complete"] == true;
    found.complete = Some(complete && found.complete != Some(false));
    if !complete {
        found.findings.push(format!("{name}: the run did not end cleanly, or is still running"));
    }
    if let Some(written) = run["records"].as_u64()
        && (complete && written != there || written > there)
    {
        let files = if place.join(JSONL).exists() { JSONL } else { ".trace files" };
        found.findings.push(format!("{name}: {written} records were written, but the {files} hold {there}"));
    }
    for loss in run["losses"].as_array().into_iter().flatten() {
        let count = loss["count"].as_u64().unwrap_or_default();
        let cause = loss["cause"].as_str().unwrap_or("the cause is not given");
        found.findings.push(format!("{name}: {count} records were lost: {cause}"));
    }
    found.sites = found.sites.saturating_add(run["sites"].as_u64().unwrap_or_default());
    for site in run["unreached"].as_array().into_iter().flatten() {
        let text = |key: &str| site[key].as_str().unwrap_or("?").to_owned();
        found.unreached.push(format!("{} ({}:{} {})", text("stage"), text("file"), site["line"], text("function")));
    }
}

/// Checks each record by itself, and that no order occurs twice. Returns the orders.
fn check(trace: &Trace, found: &mut Verification, progress: &mut dyn FnMut(usize, usize)) -> BTreeSet<u64> {
    found.findings.extend(trace.problems().iter().map(Error::full));
    let all = trace.records().len();
    found.records += all;
    let mut orders = BTreeSet::new();
    for (done, record) in trace.records().iter().enumerate() {
        if let Some(order) = record.order
            && !orders.insert(order)
        {
            found.findings.push(format!("{}: order {order} occurs twice", record.name));
        }
        let elements = record.shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if elements != Some(record.num_elements) {
            found.findings.push(format!(
                "{}: the shape {:?} does not have {} elements",
                record.name, record.shape, record.num_elements
            ));
        }
        match trace.values(record) {
            Ok(Some(values)) => {
                found.values += 1;
                if let Some(wrong) = wrong(record, &values) {
                    found.findings.push(format!("{}: {wrong}", record.name));
                }
            }
            Ok(None) if record.values.is_some() => {
                found.findings.push(format!("{}: its values are missing", record.name));
            }
            Ok(None) => {}
            Err(problem) => found.findings.push(problem.full()),
        }
        progress(done + 1, all);
    }
    orders
}

/// Checks that no order is missing: a run counts its records from 0.
fn check_orders(orders: &BTreeSet<u64>, found: &mut Verification) {
    // `last + 1` could overflow: the order comes from a file.
    if let Some(last) = orders.last()
        && let missing = last - (orders.len() as u64 - 1)
        && missing > 0
    {
        found.findings.push(format!("{missing} records are missing from the order, which goes to {last}"));
    }
}

/// How the values differ from their record, if they do. Compares hashes and statistics, and sketch and row hashes if
/// the record has them.
fn wrong(record: &TraceRecord, values: &Values) -> Option<String> {
    let wanted = Wanted { sketch: record.sketch.is_some(), rows: record.rows.is_some() };
    let mut again = None;
    let shown = values.with_view(&mut |view| {
        again = Some(digest(view, wanted));
        Ok(())
    });
    let again = match (shown, again) {
        (Ok(()), Some(again)) => again,
        (shown, _) => {
            return Some(shown.err().map_or_else(|| "its values cannot be read".to_owned(), |error| error.full()));
        }
    };
    let differs = |field: &str, found: &dyn Display, says: &dyn Display| {
        Some(format!("its values have {field} {found}, the record says {says}"))
    };
    let hash = again.blake3_text();
    if hash != record.blake3 {
        return differs("the hash", &hash, &record.blake3);
    }
    if let (Some(found), Some(says)) = (again.raw_blake3_text(), &record.raw_blake3)
        && found != *says
    {
        return differs("raw_blake3", &found, says);
    }
    let statistics = &again.statistics;
    let rms = statistics.rms();
    #[allow(clippy::float_cmp)] // both come from the same computation
    let same = rms == record.rms || !rms.is_finite() && record.rms.is_nan();
    if !same {
        return differs("rms", &rms, &record.rms);
    }
    // Other programs may leave these fields out.
    if record.mean.is_some() || statistics.mean().is_none() {
        let measured = [
            ("min", statistics.min(), record.min),
            ("max", statistics.max(), record.max),
            ("mean", statistics.mean(), record.mean),
        ];
        let number = |number: Option<f64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
        if let Some((field, found, says)) = measured.into_iter().find(|(_, found, says)| found != says) {
            return differs(field, &number(found), &number(says));
        }
        let counted = [
            ("nan_count", statistics.nan_count, record.nan_count),
            ("inf_count", statistics.inf_count, record.inf_count),
            ("zero_count", statistics.zero_count, record.zero_count),
        ];
        if let Some((field, found, says)) = counted.into_iter().find(|(_, found, says)| found != says) {
            return differs(field, &found, &says);
        }
    }
    if again.sketch_text() != record.sketch {
        return Some("its values have another sketch".to_owned());
    }
    (again.rows_text() != record.rows).then(|| "its values have other row hashes".to_owned())
}
