//! Walks the pairs and gives each its verdict.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use candle_core::Tensor;
use foldhash::fast::RandomState;

use crate::pieces::MOST_PROBLEMS;
use crate::record::TraceRecord;

use super::align::{Aligned, agree_on_steps, align, by_token};
use super::comparison::{Comparison, Details, Pair};
use super::entry::Entry;
use super::head::Hash;
use super::key::Position;
use super::metric::{is_float, smaller};
use super::side::Side;
use super::verdict::{Cause, Difference, Origin, Verdict};
use super::view::{Elements, Step, squeezed, view};
use super::{DiffOptions, cause, estimate, metric};

/// Pairs between two reports of progress.
const BETWEEN: usize = 64;

/// An error so many times that of every stage before was made here.
const JUMP: f64 = 10.0;

/// Compares two sides; `progress` is told of pairs done and pairs there are.
pub(crate) fn compare<'a>(
    mut reference: Side<'a>,
    mut trace: Side<'a>,
    options: &DiffOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Comparison {
    agree_on_steps(&mut reference, &mut trace);
    let apart = by_token(&mut reference, &mut trace);
    let aligned = align(&reference, &trace);
    let mut problems: Vec<String> =
        reference.problems.iter().chain(&trace.problems).map(crate::error::Error::full).collect();
    let mut walk = Walk {
        reference: &reference,
        trace: &trace,
        options,
        elsewhere: OnceCell::new(),
        inputs: HashMap::new(),
        largest: 0.0,
        nonfinite: false,
        problems: Vec::new(),
        last: Default::default(),
    };
    let all = aligned.len();
    let mut pairs = Vec::with_capacity(all);
    for (done, aligned) in aligned.into_iter().enumerate() {
        pairs.push(walk.pair(aligned));
        if (done + 1).is_multiple_of(BETWEEN) || done + 1 == all {
            progress(done + 1, all);
        }
    }
    problems.append(&mut walk.problems);
    problems.truncate(MOST_PROBLEMS);
    let mut counts = BTreeMap::new();
    for verdict in Verdict::ALL {
        let count = pairs.iter().filter(|pair| pair.verdict == verdict).count();
        if count > 0 {
            counts.insert(verdict.name(), count);
        }
    }
    let mut comparison = Comparison {
        smallest_tolerance: smallest_tolerance(&pairs, options.only_common),
        pairs,
        counts,
        first: None,
        by_token: apart,
        ignored: [reference.ignored, trace.ignored],
        problems,
        only_common: options.only_common,
    };
    comparison.first = comparison.pairs.iter().position(|pair| comparison.is_difference(pair.verdict));
    comparison
}

fn smallest_tolerance(pairs: &[Pair], only_common: bool) -> Option<f64> {
    let mut smallest = 0.0f64;
    for pair in pairs {
        let error = match pair.verdict {
            Verdict::Identical => 0.0,
            Verdict::OnlyReference | Verdict::OnlyTrace if only_common => 0.0,
            Verdict::Within | Verdict::Diverged => pair.details.as_ref()?.difference.as_ref()?.rel_l2?,
            _ => return None,
        };
        smallest = smallest.max(error);
    }
    smallest.is_finite().then_some(smallest)
}

/// Where the reference has a tensor, by its hash: to find what was swapped or skipped.
fn elsewhere<'s>(reference: &'s Side<'_>) -> Elsewhere<'s> {
    let mut elsewhere = Elsewhere::with_capacity_and_hasher(reference.entries.len(), RandomState::default());
    for entry in &reference.entries {
        elsewhere.entry(&entry.hash).or_insert(entry);
    }
    elsewhere
}

type Elsewhere<'s> = HashMap<&'s Hash, &'s Entry, RandomState>;

/// Where a call of a stage stands, for its inputs.
type Call = (Position, Arc<str>);

struct Walk<'s> {
    reference: &'s Side<'s>,
    trace: &'s Side<'s>,
    options: &'s DiffOptions,
    elsewhere: OnceCell<Elsewhere<'s>>,
    /// Whether all recorded inputs of a call match.
    inputs: HashMap<Call, bool>,
    /// Largest error of the pairs so far.
    largest: f64,
    /// Whether an earlier pair was not finite.
    nonfinite: bool,
    problems: Vec<String>,
    /// The tensors read last, of each side: a prefill is asked for once a token.
    last: [Option<((u32, u64), Tensor)>; 2],
}

impl Walk<'_> {
    fn pair(&mut self, aligned: Aligned) -> Pair {
        let (reference, trace) = (self.reference, self.trace);
        let (entry, (verdict, details)) = match aligned {
            Aligned::Both(left, right) => {
                let entry = &reference.entries[left];
                (entry, self.both(entry, &trace.entries[right]))
            }
            Aligned::Reference(index) => {
                let entry = &reference.entries[index];
                (entry, (Verdict::OnlyReference, Some(self.alone(entry, 0))))
            }
            Aligned::Trace(index) => {
                let entry = &trace.entries[index];
                (entry, (Verdict::OnlyTrace, Some(self.alone(entry, 1))))
            }
        };
        let mut pair = Pair { key: entry.key(), verdict, details: details.map(Box::new) };
        self.place(&mut pair, entry);
        pair
    }

    /// Whether the error was made here, and what it means for those that follow.
    fn place(&mut self, pair: &mut Pair, entry: &Entry) {
        if pair.verdict == Verdict::Identical && pair.key.io.is_none() {
            return;
        }
        let of = (entry.position, Arc::clone(&entry.kind.label.stage));
        let both = !matches!(pair.verdict, Verdict::OnlyReference | Verdict::OnlyTrace);
        if pair.key.io.as_deref() == Some("in") {
            if both {
                *self.inputs.entry(of).or_insert(true) &= pair.verdict.matches();
            }
        } else if both
            && !pair.verdict.matches()
            && let Some(details) = &mut pair.details
        {
            let error = details.difference.as_ref().and_then(|difference| difference.rel_l2);
            details.gain = error.filter(|_| self.largest > 0.0).map(|error| error / self.largest);
            details.origin = match (self.inputs.get(&of), error) {
                (Some(true), _) => Some(Origin::InputsMatch),
                (Some(false), _) => Some(Origin::InputsDiffer),
                (None, Some(error)) if error > JUMP * self.largest => Some(Origin::ErrorJumps),
                (None, Some(_)) => Some(Origin::ErrorWasThere),
                (None, None) => None,
            };
            if pair.verdict == Verdict::Nonfinite && details.cause.is_none() {
                details.cause = Some(if self.nonfinite { Cause::NonfiniteInherited } else { Cause::NonfiniteBorn });
                if details.origin.is_none_or(|origin| !matches!(origin, Origin::InputsMatch | Origin::InputsDiffer)) {
                    details.origin = Some(if self.nonfinite { Origin::ErrorWasThere } else { Origin::ErrorJumps });
                }
            }
        }
        self.nonfinite |= pair.verdict == Verdict::Nonfinite;
        let error = pair.details.as_ref().and_then(|details| details.difference.as_ref()?.rel_l2);
        self.largest = self.largest.max(error.unwrap_or(0.0));
    }

    /// A record without a partner.
    fn alone(&mut self, entry: &Entry, side: usize) -> Details {
        let from = [self.reference, self.trace][side];
        let mut details = empty();
        match from.record(entry) {
            Ok(record) => describe(&mut details, &record, side),
            Err(problem) => self.problem(problem.full()),
        }
        details.cause = (side == 0).then_some(Cause::MissingStage);
        details
    }

    fn both(&mut self, reference: &Entry, trace: &Entry) -> (Verdict, Option<Details>) {
        let as_recorded = reference.kind.steps.is_empty() && trace.kind.steps.is_empty();
        let same_shape =
            reference.kind.shape == trace.kind.shape || squeezed(&reference.kind.shape) == squeezed(&trace.kind.shape);
        let raw = reference.raw.is_none() || trace.raw.is_none() || reference.raw == trace.raw;
        let floats = [is_float(&reference.kind.dtype), is_float(&trace.kind.dtype)];
        if as_recorded && reference.hash == trace.hash && raw && same_shape && floats[0] == floats[1] {
            return (Verdict::Identical, None);
        }
        let (left, right) = match (self.reference.record(reference), self.trace.record(trace)) {
            (Ok(left), Ok(right)) => (left, right),
            (left, right) => {
                for problem in [left.err(), right.err()].into_iter().flatten() {
                    self.problem(problem.full());
                }
                let note = Some("the record could not be read again".to_owned());
                return (Verdict::Diverged, Some(Details { note, ..empty() }));
            }
        };
        let mut details = empty();
        describe(&mut details, &left, 0);
        describe(&mut details, &right, 1);
        if floats[0] != floats[1] {
            return (Verdict::Dtype, Some(details));
        }
        if as_recorded && !same_shape {
            let mut dims = [squeezed(&reference.kind.shape), squeezed(&trace.kind.shape)];
            for dims in &mut dims {
                dims.sort_unstable();
            }
            if dims[0] == dims[1] {
                details.note = Some("the same dimensions in another order: transposed".to_owned());
            }
            return (Verdict::Shape, Some(details));
        }
        if as_recorded && reference.hash == trace.hash && !raw && !floats[0] {
            details.note = Some("the elements are equal as f32, and not in their own type".to_owned());
            return (Verdict::Diverged, Some(details));
        }
        let verdict = self.measure([reference, trace], [&left, &right], &mut details);
        (verdict, Some(details))
    }

    /// Two records that can differ in their elements alone.
    fn measure(&mut self, entries: [&Entry; 2], records: [&TraceRecord; 2], details: &mut Details) -> Verdict {
        let as_recorded = entries.iter().all(|entry| entry.kind.steps.is_empty());
        let dtypes = [records[0].dtype.as_str(), records[1].dtype.as_str()];
        let limits =
            self.options.tolerance.limits(&entries[0].kind.label.stage, entries[0].position.layer, smaller(dtypes));
        let elements = self.elements(entries, records, details);
        let difference = match elements {
            Some(Ok([left, right])) => {
                if left.dims != right.dims {
                    details.shapes = [Some(left.dims), Some(right.dims)];
                    return Verdict::Shape;
                }
                let (difference, nonfinite) = metric::measure(&left, &right, dtypes);
                if difference.differing == Some(0) && nonfinite == 0 && !as_recorded {
                    return Verdict::Identical;
                }
                if nonfinite > 0 {
                    details.difference = Some(difference);
                    return Verdict::Nonfinite;
                }
                let error = difference.rel_l2.unwrap_or(f64::INFINITY);
                if !limits.allow(&difference) {
                    details.cause = match difference.rounding {
                        Some(dtype) => Some(Cause::Rounding(dtype)),
                        None => cause::of_values(&left, &right, error),
                    };
                }
                difference
            }
            Some(Err(refused)) => {
                details.note = Some(refused);
                return Verdict::Shape;
            }
            None if !as_recorded => {
                details.note = Some(
                    "the sides have to be brought into one form, and their values were not captured: \
                     BITNET_TRACE_CAPTURE=values"
                        .to_owned(),
                );
                return Verdict::Diverged;
            }
            None => {
                let counts = |record: &TraceRecord| (record.nan_count, record.inf_count);
                let (mut difference, cause) = estimate::measure(records[0], records[1]);
                difference.rows = rows(records);
                if counts(records[0]) != counts(records[1]) {
                    details.difference = Some(difference);
                    return Verdict::Nonfinite;
                }
                details.cause = cause.filter(|_| !limits.allow(&difference));
                difference
            }
        };
        let within = limits.allow(&difference);
        if !within
            && as_recorded
            && let Some(found) = self.elsewhere.get_or_init(|| elsewhere(self.reference)).get(&entries[1].hash)
            && !matches!(details.cause, Some(Cause::AllZero))
        {
            details.cause = Some(Cause::Equals(found.key().to_string()));
        }
        details.difference = Some(difference);
        if within { Verdict::Within } else { Verdict::Diverged }
    }

    /// Both sides' elements, if both were captured; the inner error says why they cannot be brought
    /// into one form.
    fn elements(
        &mut self,
        entries: [&Entry; 2],
        records: [&TraceRecord; 2],
        details: &mut Details,
    ) -> Option<Result<[Elements; 2], String>> {
        let mut tensors = [None, None];
        for side in 0..2 {
            match self.tensor(side, entries[side], records[side]) {
                Ok(tensor) => tensors[side] = tensor,
                Err(problem) => {
                    details.note = Some(format!("values: {problem}"));
                    self.problem(problem);
                }
            }
        }
        let [Some(left), Some(right)] = tensors else { return None };
        let seen = view(&left, &entries[0].kind.steps, &entries[1].kind.shape)
            .and_then(|left| Ok([left, view(&right, &entries[1].kind.steps, &entries[0].kind.shape)?]));
        Some(seen)
    }

    fn tensor(&mut self, side: usize, entry: &Entry, record: &TraceRecord) -> Result<Option<Tensor>, String> {
        let place = (entry.position.process, entry.order);
        let again = entry.order != u64::MAX && matches!(entry.kind.steps.last(), Some(Step::Token { .. }));
        if again
            && let Some((of, tensor)) = &self.last[side]
            && *of == place
        {
            return Ok(Some(tensor.clone()));
        }
        let from = [self.reference, self.trace][side];
        let tensor = from.values(entry, record).map_err(|error| error.to_string())?;
        if again && let Some(tensor) = &tensor {
            self.last[side] = Some((place, tensor.clone()));
        }
        Ok(tensor)
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < MOST_PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// Rows whose digests differ, where both sides have them.
fn rows(records: [&TraceRecord; 2]) -> Option<Vec<usize>> {
    let (left, right) = (records[0].rows.as_ref()?, records[1].rows.as_ref()?);
    (left.len() == right.len()).then(|| (0..left.len()).filter(|row| left[*row] != right[*row]).collect())
}

fn empty() -> Details {
    Details {
        names: [None, None],
        shapes: [None, None],
        dtypes: [None, None],
        rms: [None, None],
        site: None,
        difference: None::<Difference>,
        cause: None,
        origin: None,
        gain: None,
        note: None,
    }
}

fn describe(details: &mut Details, record: &TraceRecord, side: usize) {
    details.names[side] = Some(record.name.clone());
    details.shapes[side] = Some(record.shape.clone());
    details.dtypes[side] = Some(record.dtype.clone());
    details.rms[side] = Some(record.rms);
    if record.site.is_some() {
        details.site.clone_from(&record.site);
    }
}
