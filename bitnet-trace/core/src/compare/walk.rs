//! Judges the pairs of two sides one after another, and collects the results.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::trace::pieces::MOST_PROBLEMS;

use super::DiffOptions;
use super::align::{self, Aligned, Alignment, align, probably_the_same};
use super::captures::Captures;
use super::comparison::{Comparison, Conclusion, Details, Pair};
use super::coverage::{Adaptations, coverage};
use super::entry::Entry;
use super::judge::{Elsewhere, Judgement, describe};
use super::origin::Origins;
use super::side::Side;
use super::tolerance::Needed;
use super::verdict::{Cause, Verdict};

/// The number of pairs between two calls of `progress`.
const BETWEEN: usize = 64;

/// Compares two sides. `progress` is called with the number of pairs compared so far and the number of all pairs.
pub(crate) fn compare<'a>(
    mut reference: Side<'a>,
    mut trace: Side<'a>,
    options: &DiffOptions,
    progress: &mut dyn FnMut(usize, usize),
) -> Comparison {
    let Alignment { pairs: aligned, by_token, problems: unaligned, hints, whole } = align(&mut reference, &mut trace);
    let suggestions = probably_the_same(&reference.entries, &trace.entries, &aligned);
    let mut problems: Vec<String> =
        reference.problems.iter().chain(&trace.problems).cloned().chain(unaligned).collect();
    let mut walk = Walk {
        reference: &reference,
        trace: &trace,
        options,
        elsewhere: OnceCell::new(),
        stages: OnceCell::new(),
        needed: Some(Needed::default()),
        adaptations: Adaptations::default(),
        problems: Vec::new(),
        captures: Captures::new([&reference, &trace]),
    };
    let mut pairs = walk.measure_all(&aligned, by_token, progress);
    let Walk { needed, adaptations, problems: found, captures, .. } = walk;
    let reads = captures.reads();
    problems.extend(found);
    problems.truncate(MOST_PROBLEMS);
    let mut origins = Origins::of(&pairs);
    for pair in &mut pairs {
        origins.place(pair);
    }
    let mut counts = BTreeMap::new();
    for pair in &pairs {
        *counts.entry(pair.verdict.name()).or_default() += 1;
    }
    let mut comparison = Comparison {
        conclusion: Conclusion::NothingCompared,
        first: pairs.iter().position(Pair::is_divergence),
        coverage: coverage(&pairs),
        pairs,
        counts,
        adaptations: adaptations.into_list(),
        suggestions,
        hints,
        reads,
        whole,
        smallest_tolerance: needed.and_then(Needed::rel_l2_alone),
        smallest_limits: needed,
        by_token,
        ignored: [reference.left_out.len(), trace.left_out.len()],
        problems,
        only_common: options.only_common,
    };
    comparison.conclusion = comparison.conclude();
    comparison
}

/// A stage in a layer. The gradient of a tensor is another stage than what has the name of the tensor.
type LayerStage<'s> = (Option<usize>, &'s str, bool);

type LayerStages<'s> = HashSet<LayerStage<'s>, RandomState>;

fn layer_stage(entry: &Entry) -> LayerStage<'_> {
    let label = &entry.kind.label;
    (entry.position.layer, &label.stage, label.is_gradient())
}

fn stages<'s>(trace: &'s Side<'_>) -> LayerStages<'s> {
    trace.entries.iter().map(layer_stage).collect()
}

/// The state of a comparison while its pairs are judged.
pub(super) struct Walk<'s> {
    pub(super) reference: &'s Side<'s>,
    pub(super) trace: &'s Side<'s>,
    pub(super) options: &'s DiffOptions,
    pub(super) elsewhere: OnceCell<Elsewhere<'s>>,
    /// The layers and stages of the trace's records.
    stages: OnceCell<LayerStages<'s>>,
    /// The smallest limits that would be enough for the pairs so far; `None` if no limits would be.
    pub(super) needed: Option<Needed>,
    pub(super) adaptations: Adaptations,
    pub(super) problems: Vec<String>,
    pub(super) captures: Captures<'s>,
}

impl Walk<'_> {
    /// Judges every pair, and returns the pairs in the order of `aligned`.
    fn measure_all(
        &mut self,
        aligned: &[Aligned],
        by_token: bool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Vec<Pair> {
        let all = aligned.len();
        let mut order: Vec<usize> = if by_token { (0..all).collect() } else { Vec::new() };
        order.sort_by_cached_key(|at| self.record_order(aligned[*at]));
        let mut done = 0;
        let mut measure = |at: usize| {
            let pair = self.pair(aligned[at]);
            done += 1;
            if done % BETWEEN == 0 || done == all {
                progress(done, all);
            }
            pair
        };
        if !by_token {
            return (0..all).map(measure).collect();
        }
        // The rows of one record are judged one after another, so that its values are read only once.
        let mut found: Vec<(usize, Pair)> = order.into_iter().map(|at| (at, measure(at))).collect();
        found.sort_by_key(|(at, _)| *at);
        found.into_iter().map(|(_, pair)| pair).collect()
    }

    /// A sort key that puts the pairs of a stage and layer next to each other, by token.
    fn record_order(&self, aligned: Aligned) -> impl Ord + use<> {
        let entry = match aligned {
            Aligned::Both(index, _) | Aligned::Reference(index) => &self.reference.entries[index],
            Aligned::Trace(index) => &self.trace.entries[index],
        };
        let (at, label) = (entry.position, &entry.kind.label);
        let label = (Arc::clone(&label.stage), label.output.clone(), label.io.clone());
        ((at.process, at.request), label, at.layer, (at.token, at.seq, at.call))
    }

    fn pair(&mut self, aligned: Aligned) -> Pair {
        let (reference, trace) = (self.reference, self.trace);
        match aligned {
            Aligned::Reference(index) => self.alone(&reference.entries[index], 0),
            Aligned::Trace(index) => self.alone(&trace.entries[index], 1),
            Aligned::Both(left, right) => {
                let (left, right) = (&reference.entries[left], &trace.entries[right]);
                let Judgement { verdict, compared, details } = self.both(left, right);
                let key = align::merged(left, right);
                for adaptation in align::adaptations(left, right).filter(|_| compared) {
                    self.adaptations.add(adaptation, &key);
                }
                Pair { key, verdict, compared, details }
            }
        }
    }

    /// The pair of a record without a partner.
    fn alone(&mut self, entry: &Entry, side: usize) -> Pair {
        let from = [self.reference, self.trace][side];
        let mut details = Details::default();
        match from.record(entry) {
            Ok(record) => describe(&mut details, &record, side),
            Err(problem) => self.problem(problem.full()),
        }
        if entry.alone {
            details.note = Some(
                "the other side computed its tokens in different steps, and this record cannot be split".to_owned(),
            );
        } else if side == 0 && !self.is_in_trace(entry) {
            details.cause = Some(Cause::MissingStage);
        }
        let verdict = [Verdict::OnlyReference, Verdict::OnlyTrace][side];
        Pair { key: entry.key(), verdict, compared: false, details: Some(Box::new(details)) }
    }

    /// Whether the trace has some record of the stage in this layer.
    fn is_in_trace(&self, entry: &Entry) -> bool {
        self.stages.get_or_init(|| stages(self.trace)).contains(&layer_stage(entry))
    }
}
