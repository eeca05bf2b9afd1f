//! `bitnet-trace show TRACE RECORD`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::report::printable;
use bitnet_trace_core::trace::Values;
use bitnet_trace_core::{Trace, TraceRecord};
use ndarray::{ArrayD, ArrayViewD};
use clap::Args;
use serde::Serialize;

use crate::outcome::{Outcome, warn_of};
use crate::slice::sliced;

/// Shows one record: its fields, and its values where they were captured
#[derive(Args)]
pub(crate) struct Show {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    trace: PathBuf,
    /// The record's name, or `@` and its place in the order: `@12`
    record: String,
    /// Which values, as in numpy: `0,-1,:8`, `...,::2`
    #[arg(long, value_name = "SLICE", allow_hyphen_values = true)]
    slice: Option<String>,
    /// Prints the record as JSON, with the slice's shape and elements if one is asked for
    #[arg(long)]
    json: bool,
}

/// Bars of the histogram, and their greatest length.
const BARS: usize = 16;
const LONGEST: usize = 40;

/// Elements from here on are whole numbers whatever they are: 2^53.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// Between these the largest element is shown with four decimals, else with an exponent.
const SMALL: f64 = 1e-3;
const LARGE: f64 = 1e5;

const NOT_CAPTURED: &str = "the values were not captured: BITNET_TRACE_CAPTURE=values";

/// A record and some of its values, for `--json`.
#[derive(Serialize)]
struct WithSlice<'a> {
    #[serde(flatten)]
    record: &'a TraceRecord,
    slice: Elements<'a>,
}

/// Elements in row-major order; what is not finite is `null`.
#[derive(Serialize)]
struct Elements<'a> {
    shape: &'a [usize],
    elements: Vec<f64>,
}

impl Show {
    pub(crate) fn execute(&self) -> Outcome {
        let trace = Trace::open(&self.trace)?;
        let record = self.find(&trace)?;
        let mut out = anstream::stdout().lock();
        if self.json {
            match &self.slice {
                Some(slice) => {
                    let values = array(&trace.values(record)?.ok_or(NOT_CAPTURED)?)?;
                    let values = sliced(values.view(), slice)?;
                    let slice = Elements { shape: values.shape(), elements: values.iter().copied().collect() };
                    serde_json::to_writer_pretty(&mut out, &WithSlice { record, slice })?;
                }
                None => serde_json::to_writer_pretty(&mut out, record)?,
            }
            writeln!(out)?;
            return Ok(ExitCode::SUCCESS);
        }
        let serde_json::Value::Object(fields) = serde_json::to_value(record)? else { return Ok(ExitCode::SUCCESS) };
        for (name, value) in fields.iter().filter(|(name, _)| !matches!(name.as_str(), "sketch" | "rows")) {
            match value {
                serde_json::Value::String(text) => writeln!(out, "{name:<14}{}", printable(text))?,
                value => writeln!(out, "{name:<14}{value}")?,
            }
        }
        let values = match trace.values(record) {
            Ok(values) => values,
            Err(problem) => {
                warn_of([&problem]);
                None
            }
        };
        match values {
            Some(values) => {
                let elements = array(&values)?;
                let shown = match &self.slice {
                    Some(slice) => sliced(elements.view(), slice)?,
                    None => elements.view(),
                };
                writeln!(out)?;
                write_elements(&mut out, &shown, &values)?;
                histogram(&mut out, &elements)?;
            }
            None if self.slice.is_some() => return Err(NOT_CAPTURED.into()),
            None => {}
        }
        Ok(ExitCode::SUCCESS)
    }

    fn find<'t>(&self, trace: &'t Trace) -> Result<&'t TraceRecord, String> {
        let order = self.record.strip_prefix('@').and_then(|order| order.parse::<u64>().ok());
        let found = trace.records().iter().find(|record| match order {
            Some(order) => record.order == Some(order),
            None => record.name == self.record,
        });
        found.ok_or_else(|| {
            let nearest = trace.records().iter().find(|record| record.name.contains(&self.record));
            let hint = nearest.map(|record| format!("; there is {}", record.name)).unwrap_or_default();
            format!("{} has no record {:?}{hint}", self.trace.display(), self.record)
        })
    }
}

/// The elements, in their shape.
fn array(values: &Values) -> Result<ArrayD<f64>, String> {
    ArrayD::from_shape_vec(values.shape.clone(), values.to_f64())
        .map_err(|error| format!("values of shape {:?} cannot be shown: {error}", values.shape))
}

/// As many decimals as tell the elements apart, the middle of long dimensions left out.
fn write_elements(out: &mut impl Write, shown: &ArrayViewD<'_, f64>, values: &Values) -> std::io::Result<()> {
    let largest = shown.iter().filter(|element| element.is_finite()).fold(0f64, |most, element| most.max(element.abs()));
    if shown.iter().all(|element| element.fract() == 0.0) && largest < WHOLE {
        writeln!(out, "{shown:.0}")?;
    } else if (SMALL..LARGE).contains(&largest) {
        writeln!(out, "{shown:.4}")?;
    } else {
        writeln!(out, "{shown:.4e}")?;
    }
    writeln!(out, "{} {:?}", values.dtype.name(), shown.shape())
}

/// How many of the finite elements lie where between the smallest and the largest.
#[allow(clippy::cast_precision_loss)] // a few bars
fn histogram(out: &mut impl Write, values: &ArrayD<f64>) -> std::io::Result<()> {
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (min, max) =
        finite().fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), value| (min.min(value), max.max(value)));
    if min >= max {
        return Ok(());
    }
    let mut counts = [0usize; BARS];
    for value in finite() {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to BARS
        let bar = ((value - min) / (max - min) * BARS as f64) as usize;
        counts[bar.min(BARS - 1)] += 1;
    }
    let most = counts.into_iter().max().unwrap_or(1).max(1);
    writeln!(out)?;
    for (bar, count) in counts.into_iter().enumerate() {
        let from = min + (max - min) * bar as f64 / BARS as f64;
        writeln!(out, "{from:>12.4e}  {:<LONGEST$}  {count}", "#".repeat((count * LONGEST).div_ceil(most)))?;
    }
    writeln!(out, "{max:>12.4e}")?;
    Ok(())
}
