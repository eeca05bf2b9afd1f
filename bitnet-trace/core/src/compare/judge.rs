//! Gives two records that belong together their verdict, and says what it rests on.

use std::collections::HashMap;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::trace::Values;
use crate::trace::pieces::MOST_PROBLEMS;
use crate::record::TraceRecord;

use super::adaptation::Adaptation;
use super::compare::Walk;
use super::comparison::Details;
use super::entry::{Entry, Kind};
use super::head::Hash;
use super::measure::{Compared, Given, Step, is_float, smaller, squeezed};
use super::side::Side;
use super::tolerance::{Held, Limits};
use super::verdict::{Cause, Difference, Evidence, Verdict};
use super::{form, measure, precision};

/// Tensors of fewer elements are equal to another one by chance too easily.
const ENOUGH: usize = 8;

/// Below this integer f32 holds all of them.
const EXACT: f64 = 16_777_216.0;

/// What comes of two records that belong together.
pub(super) struct Outcome {
    pub(super) verdict: Verdict,
    /// False where the records do not hold what it takes.
    pub(super) compared: bool,
    pub(super) details: Option<Box<Details>>,
}

impl Outcome {
    fn new(verdict: Verdict, details: Details) -> Self {
        Self { verdict, compared: true, details: Some(Box::new(details)) }
    }

    /// Nothing shows that they match, and nothing that they do not.
    fn not_compared(mut details: Details, reason: String) -> Self {
        details.note = Some(reason);
        Self { compared: false, ..Self::new(Verdict::Diverged, details) }
    }
}

/// Where the reference has a tensor, by its hash: to find what was swapped or skipped.
fn elsewhere<'s>(reference: &'s Side<'_>) -> Elsewhere<'s> {
    let mut elsewhere = Elsewhere::with_capacity_and_hasher(reference.entries.len(), RandomState::default());
    let whole = |entry: &&Entry| entry.hash.is_digest() && entry.kind.steps.is_empty();
    for entry in reference.entries.iter().filter(whole) {
        elsewhere.entry(&entry.hash).or_insert(entry);
    }
    elsewhere
}

pub(super) type Elsewhere<'s> = HashMap<&'s Hash, &'s Entry, RandomState>;

impl Walk<'_> {
    /// Two records of one key.
    pub(super) fn both(&mut self, reference: &Entry, trace: &Entry) -> Outcome {
        let as_recorded = reference.kind.steps.is_empty() && trace.kind.steps.is_empty();
        let shapes = [&reference.kind.shape, &trace.kind.shape];
        let same_shape = shapes[0] == shapes[1] || squeezed(shapes[0]) == squeezed(shapes[1]);
        let equal = reference.hash.proves_equal(&trace.hash);
        let raw = raw_digests(reference, trace);
        let floats = [is_float(&reference.kind.dtype), is_float(&trace.kind.dtype)];
        // What is done to both alike makes no difference between them.
        let alike = as_recorded && same_shape || reference.kind.steps == trace.kind.steps && shapes[0] == shapes[1];
        if alike && equal && raw == Raw::Equal && floats[0] == floats[1] {
            return Outcome { verdict: Verdict::Identical, compared: true, details: None };
        }
        let (left, right) = match (self.reference.record(reference), self.trace.record(trace)) {
            (Ok(left), Ok(right)) => (left, right),
            (left, right) => {
                for problem in [left.err(), right.err()].into_iter().flatten() {
                    self.problem(problem.full());
                }
                let reason = "the record could not be read again".to_owned();
                return Outcome::not_compared(Details::default(), reason);
            }
        };
        let mut details = Details::default();
        describe(&mut details, &left, 0);
        describe(&mut details, &right, 1);
        for (name, hash) in [("reference", &reference.hash), ("trace", &trace.hash)] {
            if !hash.is_digest() {
                details.note = Some(format!(
                    "`blake3` of the {name} is no digest of 64 hex digits: it cannot show that elements are equal"
                ));
            }
        }
        if floats[0] != floats[1] {
            self.needed = None;
            return Outcome::new(Verdict::Dtype, details);
        }
        if as_recorded && !same_shape {
            return self.other_shape([reference, trace], [&left, &right], details);
        }
        if as_recorded && equal && raw == Raw::Different && !floats[0] {
            details.note = Some("the elements are equal as f32, and not in their own type".to_owned());
            self.needed = None;
            return Outcome::new(Verdict::Diverged, details);
        }
        if as_recorded && equal && raw == Raw::Unknown && !floats[0] && !self.have_values([reference, trace]) {
            // Below this one f32 holds every integer exactly, and none above becomes one below.
            let exact =
                |record: &TraceRecord| record.min.zip(record.max).is_some_and(|(min, max)| -EXACT < min && max < EXACT);
            if exact(&left) || exact(&right) {
                return Outcome { verdict: Verdict::Identical, compared: true, details: None };
            }
            let reason = "the elements are equal as f32, which does not tell all integers apart; `raw_blake3` or the \
                          values of both sides do";
            return Outcome::not_compared(details, reason.to_owned());
        }
        if let Some((left, right)) = reference.tokens.zip(trace.tokens).filter(|(left, right)| left != right)
            && as_recorded
            && details.note.is_none()
        {
            details.note = Some(format!("the sides say that they hold other positions: {left:?} and {right:?}"));
        }
        self.measure([reference, trace], [&left, &right], details)
    }

    fn have_values(&self, entries: [&Entry; 2]) -> bool {
        self.reference.has_values(entries[0]) && self.trace.has_values(entries[1])
    }

    /// Two records of other dimensions: the last row of one may be the other.
    fn other_shape(&mut self, entries: [&Entry; 2], records: [&TraceRecord; 2], mut details: Details) -> Outcome {
        let Some((side, row)) = form::last_row(entries) else {
            self.needed = None;
            details.cause = self.rearranged(entries, records);
            return Outcome::new(Verdict::Shape, details);
        };
        let steps = Arc::from([row]);
        let entry = Entry { kind: Arc::new(Kind { steps, ..(*entries[side].kind).clone() }), ..entries[side].clone() };
        let rows = form::last_row_by_digest(records, side);
        let entries = if side == 0 { [&entry, entries[1]] } else { [entries[0], &entry] };
        let outcome = self.measure(entries, records, details.clone());
        if outcome.compared || rows.is_some() {
            self.adaptations.add(Adaptation::LastRow, &entries[0].key());
        }
        let Some(equal) = rows.filter(|_| !outcome.compared) else { return outcome };
        let is = if equal { "equal" } else { "not equal" };
        details.note = Some(format!("the 64-bit digests of the row are {is}; nothing else was captured"));
        details.difference = Some(Difference::unknown(Evidence::Statistics));
        self.needed = self.needed.filter(|_| equal);
        Outcome::new(if equal { Verdict::Within } else { Verdict::Diverged }, details)
    }

    /// Whether one is a reshape of the other, or has dimensions exchanged.
    fn rearranged(&mut self, entries: [&Entry; 2], records: [&TraceRecord; 2]) -> Option<Cause> {
        if entries[0].hash.proves_equal(&entries[1].hash) {
            return Some(Cause::Reshaped);
        }
        let dims = entries.map(|entry| &*entry.kind.shape);
        form::exchanged(dims).into_iter().find_map(|(first, second)| {
            let dim = |dim| i64::try_from(dim).unwrap_or(i64::MAX);
            let steps = Arc::from([Step::Transpose(dim(first), dim(second))]);
            let turned = Entry { kind: Arc::new(Kind { steps, ..(*entries[0].kind).clone() }), ..entries[0].clone() };
            let compared = self.elements([&turned, entries[1]], records, &|_| true, &mut Details::default());
            let same = matches!(
                compared,
                Some(Ok(Compared::Elements { difference: Difference { differing: Some(0), .. }, nonfinite: 0, .. }))
            );
            (same && varies(records[1])).then_some(Cause::Transposed(first, second))
        })
    }

    /// Two records that can differ in their elements alone.
    fn measure(&mut self, entries: [&Entry; 2], records: [&TraceRecord; 2], mut details: Details) -> Outcome {
        let as_recorded = entries.iter().all(|entry| entry.kind.steps.is_empty());
        let dtypes = [records[0].dtype.as_str(), records[1].dtype.as_str()];
        let limits =
            self.options.tolerance.limits(&entries[0].kind.label.stage, entries[0].position.layer, smaller(dtypes));
        let exceeds = |difference: &Difference| limits.hold(difference) == Held::Exceeded;
        let difference = match self.elements(entries, records, &|difference| !exceeds(difference), &mut details) {
            Some(Ok(Compared::Shapes([left, right]))) => {
                details.shapes = [Some(left), Some(right)];
                self.needed = None;
                return Outcome::new(Verdict::Shape, details);
            }
            Some(Ok(Compared::Elements { difference, nonfinite, cause })) => {
                if difference.differing == Some(0) && nonfinite == 0 && !as_recorded {
                    // There may be very many rows.
                    let is_row = entries.iter().any(|entry| entry.is_row());
                    let details = Some(details).filter(|_| !is_row).map(Box::new);
                    return Outcome { verdict: Verdict::Identical, compared: true, details };
                }
                let digests = entries.iter().all(|entry| entry.hash.is_digest());
                if difference.differing == Some(0)
                    && nonfinite == 0
                    && digests
                    && !entries[0].hash.proves_equal(&entries[1].hash)
                {
                    let reason = "the captured values are equal and the digests are not: some values are not those of \
                                  their record (`bitnet-trace verify` tells which)";
                    self.problem(format!("{}: {reason}", records[1].name));
                    return Outcome::not_compared(details, reason.to_owned());
                }
                if nonfinite > 0 {
                    details.difference = Some(difference);
                    self.needed = None;
                    return Outcome::new(Verdict::Nonfinite, details);
                }
                details.cause = cause;
                difference
            }
            Some(Err(refused)) => {
                details.note = Some(refused);
                self.needed = None;
                return Outcome::new(Verdict::Shape, details);
            }
            None if !as_recorded => {
                let reason = details.note.take().unwrap_or_else(|| {
                    "the sides have to be brought into one form first, which takes the values of both: \
                     BITNET_TRACE_CAPTURE=values"
                        .to_owned()
                });
                return Outcome::not_compared(details, reason);
            }
            None => {
                let (mut difference, cause) = measure::estimate(records[0], records[1]);
                difference.rows = rows(records);
                let counts = |record: &TraceRecord| (record.nan_count, record.inf_count);
                if counts(records[0]) != counts(records[1]) || details.nonfinite[0] != details.nonfinite[1] {
                    details.difference = Some(difference);
                    self.needed = None;
                    return Outcome::new(Verdict::Nonfinite, details);
                }
                if details.nonfinite != [0, 0] && !exceeds(&difference) {
                    let reason = "both sides have NaN or infinite elements, whose places and signs only values tell: \
                                  BITNET_TRACE_CAPTURE=values";
                    return Outcome::not_compared(details, reason.to_owned());
                }
                if entries[0].hash.proves_equal(&entries[1].hash) && difference.rel_l2.is_none_or(|error| error == 0.0)
                {
                    // Equal as f32, and f64 that may differ beyond: no more than its rounding.
                    difference.rel_l2 = Some(f64::from(f32::EPSILON) / 2.0);
                }
                details.cause = cause.filter(|_| exceeds(&difference));
                difference
            }
        };
        let verdict = self.judge(&limits, &difference, &mut details);
        if verdict == Verdict::Diverged
            && as_recorded
            && varies(records[1])
            && let Some(found) = self.elsewhere.get_or_init(|| elsewhere(self.reference)).get(&entries[1].hash)
            && found.raw == entries[1].raw
        {
            details.cause = Some(Cause::Equals(found.key().to_string()));
        }
        details.difference = Some(difference);
        Outcome::new(verdict, details)
    }

    /// Holds a difference to its limits.
    fn judge(&mut self, limits: &Limits, difference: &Difference, details: &mut Details) -> Verdict {
        self.needed = self.needed.and_then(|mut needed| limits.widen(&mut needed, difference).map(|()| needed));
        match limits.hold(difference) {
            Held::Within => Verdict::Within,
            Held::Exceeded => Verdict::Diverged,
            Held::Unknown(limit) => {
                if details.note.is_none() && difference.evidence != Evidence::Statistics {
                    details.note = Some(format!(
                        "nothing shows that the limit `{limit}` is held: it takes the values of both sides, \
                         BITNET_TRACE_CAPTURE=values"
                    ));
                }
                Verdict::Diverged
            }
        }
    }

    /// Compares the elements, if both sides were captured; the inner error says why they cannot be
    /// brought into one form. A cause is looked for where the difference is not `allowed`.
    fn elements(
        &mut self,
        entries: [&Entry; 2],
        records: [&TraceRecord; 2],
        allowed: &dyn Fn(&Difference) -> bool,
        details: &mut Details,
    ) -> Option<Result<Compared, String>> {
        let mut captured: [Option<Rc<Cow<'_, Values>>>; 2] = [None, None];
        for side in 0..2 {
            match self.captures.get(side, entries[side], records[side]) {
                Ok(found) => captured[side] = found,
                Err(problem) => {
                    details.note = Some(format!("values: {problem}"));
                    self.problem(problem);
                }
            }
        }
        let [Some(left), Some(right)] = captured else { return None };
        let given = |side: usize, captured| Given {
            captured,
            dtype: records[side].dtype.as_str(),
            steps: &entries[side].kind.steps,
            shape: &entries[side].kind.shape,
        };
        Some(measure::compare([given(0, &left), given(1, &right)], None, allowed))
    }

    pub(super) fn problem(&mut self, problem: String) {
        if self.problems.len() < MOST_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// What the digests of the elements' own bytes say, of types whose values f32 does not tell apart.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Raw {
    /// They are equal, or the type needs none.
    Equal,
    Different,
    /// A side has none, or another type.
    Unknown,
}

fn raw_digests(reference: &Entry, trace: &Entry) -> Raw {
    let needs = |entry: &Entry| matches!(&*entry.kind.dtype, "F64" | "I64" | "U32" | "I32");
    if !needs(reference) && !needs(trace) {
        return Raw::Equal;
    }
    match (&reference.raw, &trace.raw) {
        (Some(left), Some(right))
            if reference.kind.dtype == trace.kind.dtype && left.is_digest() && right.is_digest() =>
        {
            if left == right {
                Raw::Equal
            } else {
                Raw::Different
            }
        }
        // Floating-point numbers that are equal as f32 are near enough to be compared as such.
        _ if is_float(&reference.kind.dtype) && reference.kind.dtype != trace.kind.dtype => Raw::Equal,
        _ => Raw::Unknown,
    }
}

/// Whether a tensor has enough elements, and different ones, for its digest to be its own.
fn varies(record: &TraceRecord) -> bool {
    record.num_elements >= ENOUGH && record.min != record.max
}

/// Rows whose digests differ, where both sides have them.
fn rows(records: [&TraceRecord; 2]) -> Option<Vec<usize>> {
    let (left, right) = (records[0].rows.as_ref()?, records[1].rows.as_ref()?);
    (left.len() == right.len()).then(|| (0..left.len()).filter(|row| left[*row] != right[*row]).collect())
}

/// Puts what a record says of its tensor into the details of its pair.
pub(super) fn describe(details: &mut Details, record: &TraceRecord, side: usize) {
    details.names[side] = Some(record.name.clone());
    details.shapes[side] = Some(record.shape.clone());
    details.dtypes[side] = Some(record.dtype.clone());
    details.rms[side] = Some(record.rms);
    let counted = record.nan_count.saturating_add(record.inf_count);
    // The earlier tracer does not count: its rms tells.
    details.nonfinite[side] = counted.max(usize::from(!record.rms.is_finite()));
    details.computed_in[side] = precision::computed_in(record);
    if record.site.is_some() {
        details.site.clone_from(&record.site);
    }
}
