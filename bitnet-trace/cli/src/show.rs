//! `bitnet-trace show TRACE RECORD`

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_trace_core::digest::Dtype;
use bitnet_trace_core::report::printable;
use bitnet_trace_core::trace::Values;
use bitnet_trace_core::{Trace, TraceRecord};
use clap::Args;
use ndarray::{ArrayD, ArrayViewD};
use serde::Serialize;

use crate::outcome::{Outcome, warn_of};
use crate::slice::sliced;

/// Shows one record: its fields and, if they were captured, its values
///
/// With values it also prints a histogram of the finite elements. Values are captured by
/// `BITNET_TRACE_CAPTURE=values`.
#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Show {
    /// A trace directory, a `.jsonl` file, or one `.trace` file
    trace: PathBuf,
    /// The name of the record, or `@` and its `order`: `t0/blk3/q_proj`, `@12`
    record: String,
    /// Show only this slice of the values, written as in numpy: `0,-1,:8`, `...,::2`
    #[arg(long, value_name = "SLICE", allow_hyphen_values = true)]
    slice: Option<String>,
    /// Print the record as JSON, with the fields that it has in the trace; with `--slice`, the field `slice` holds the
    /// shape and the elements of the slice
    #[arg(long)]
    json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  bitnet-trace show before t0/blk3/q_proj
  bitnet-trace show before @12 --slice 0,-1,:8

Exit codes:
  0  the record was shown
  2  wrong usage, there is no such record, or the slice needs values that were not captured";

/// The number of bars of the histogram, and the length of the longest bar in characters.
const BARS: usize = 16;
const LONGEST: usize = 40;

/// 2^53: from here on every f64 is a whole number, so that being whole says nothing about the elements.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// If the largest magnitude is in this range, elements are shown with four decimals, else with an exponent.
const SMALL: f64 = 1e-3;
const LARGE: f64 = 1e5;

const NOT_CAPTURED: &str =
    "the values of this record were not captured; record with BITNET_TRACE_CAPTURE=values to have them";

/// A record and a slice of its values, for `--json`.
#[derive(Serialize)]
struct WithSlice<'a> {
    #[serde(flatten)]
    record: &'a TraceRecord,
    slice: SliceElements<'a>,
}

/// Elements in row-major order. JSON has no NaN and no infinity: such elements are `null`.
#[derive(Serialize)]
struct SliceElements<'a> {
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
                    let values = trace.values(record)?.ok_or(NOT_CAPTURED)?;
                    let values = array(&values, values.to_f64())?;
                    let values = sliced(values.view(), slice)?;
                    let slice = SliceElements { shape: values.shape(), elements: values.iter().copied().collect() };
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
            Some(values) => self.write_values(&mut out, &values)?,
            None if self.slice.is_some() => return Err(NOT_CAPTURED.into()),
            None => {}
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Writes the values that were asked for, and a histogram of all of them.
    fn write_values(&self, out: &mut impl Write, values: &Values) -> Result<(), Box<dyn std::error::Error>> {
        let elements = array(values, values.to_f64())?;
        writeln!(out)?;
        let shape = if let Some(integers) = integers(values) {
            let integers = array(values, integers)?;
            let shown = self.part(integers.view())?;
            writeln!(out, "{shown}")?;
            shown.shape().to_vec()
        } else {
            let shown = self.part(elements.view())?;
            write_elements(out, &shown)?;
            shown.shape().to_vec()
        };
        writeln!(out, "{} {shape:?}", values.dtype.name())?;
        histogram(out, &elements)?;
        Ok(())
    }

    /// The slice that was asked for, or everything.
    fn part<'e, T>(&self, elements: ArrayViewD<'e, T>) -> Result<ArrayViewD<'e, T>, String> {
        match &self.slice {
            Some(slice) => sliced(elements, slice),
            None => Ok(elements),
        }
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

/// The elements as an array of the record's shape.
fn array<T>(values: &Values, elements: Vec<T>) -> Result<ArrayD<T>, String> {
    ArrayD::from_shape_vec(values.shape.clone(), elements)
        .map_err(|error| format!("values of shape {:?} cannot be shown: {error}", values.shape))
}

/// The elements of the one type whose integers f64 does not hold exactly; `None` for every other type.
fn integers(values: &Values) -> Option<Vec<i64>> {
    let elements = || values.bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
    (values.dtype == Dtype::I64).then(elements)
}

/// Writes the elements with a number of decimals that suits them. `ndarray` leaves out the middle of long dimensions.
fn write_elements(out: &mut impl Write, shown: &ArrayViewD<'_, f64>) -> std::io::Result<()> {
    let largest =
        shown.iter().filter(|element| element.is_finite()).fold(0f64, |most, element| most.max(element.abs()));
    if shown.iter().all(|element| element.fract() == 0.0) && largest < WHOLE {
        writeln!(out, "{shown:.0}")?;
    } else if (SMALL..LARGE).contains(&largest) {
        writeln!(out, "{shown:.4}")?;
    } else {
        writeln!(out, "{shown:.4e}")?;
    }
    Ok(())
}

/// Writes a histogram of the finite elements, from the smallest to the largest.
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

#[cfg(test)]
mod tests {
    use bitnet_trace_core::digest::{Elements, TensorView};
    use bitnet_trace_core::session::{TraceSession, record};

    use super::Show;

    /// The largest integers have neighbours that f64 does not tell apart from them.
    #[test]
    fn integers_are_shown_exactly() {
        let session: TraceSession =
            TraceSession::builder().in_memory().capture("values").start().expect("nothing to fail");
        let ids = [9_007_199_254_740_993, i64::MIN, i64::MAX];
        session.in_scope(|| record("ids", &TensorView::contiguous(Elements::I64(&ids), &[3]).expect("three elements")));
        let trace = session.finish().expect("nothing was lost");
        let values = trace.values(&trace.records()[0]).expect("readable").expect("captured");
        let shown = |slice: Option<&str>| {
            let show =
                Show { trace: "trace".into(), record: "ids".to_owned(), slice: slice.map(str::to_owned), json: false };
            let mut out = Vec::new();
            show.write_values(&mut out, &values).expect("written");
            String::from_utf8(out).expect("UTF-8")
        };
        let all = shown(None);
        assert!(ids.iter().all(|id| all.contains(&id.to_string())) && all.contains("I64 [3]"), "{all}");
        assert!(shown(Some("0")).starts_with("\n9007199254740993\nI64 []\n"), "{}", shown(Some("0")));
    }
}
