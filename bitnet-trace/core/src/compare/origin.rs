//! Whether a stage made its error or was given it. A stage is said to be the cause only where what
//! was recorded leaves no other explanation.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::comparison::{Details, Pair};
use super::key::Position;
use super::tolerance::usual_error;
use super::verdict::{Cause, Origin, Verdict};

/// An error so many times that of every stage before was made here.
const JUMP: f64 = 10.0;

/// Smaller errors than this come out of the smallest ones by themselves: where a layer rounds its input
/// to 8 bits, one step of 127 is made of a value that lies between two of them. A relative L2 error.
const QUANTISED: f64 = 0.03;

/// How some pairs differ.
#[derive(Debug, Clone, Default)]
struct Errors {
    /// How many pairs there are.
    compared: usize,
    /// Some pair is not identical.
    differs: bool,
    /// Some pair does not match.
    diverged: bool,
    /// Some pair differs by an amount that is not known.
    unknown: bool,
    /// Largest relative L2 error.
    largest: f64,
}

/// What the pairs before tell of one request in one process; of none where they belong to all of them.
#[derive(Debug, Clone, Default)]
struct Before {
    errors: Errors,
    /// Some pair, or record without a partner, is not finite.
    nonfinite: bool,
    /// Something was not compared.
    apart: bool,
}

/// A call of a stage.
type Call = (Position, Arc<str>);

/// Follows the pairs in execution order.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    before: HashMap<(u32, Option<u64>), Before>,
    inputs: HashMap<Call, Errors>,
    /// Stages of which not every call recorded every input: repeat numbers of outputs and inputs do
    /// not say which belong together.
    unrelated: HashSet<Call>,
    /// Processes in which some pair does not match.
    diverged: HashSet<u32>,
    /// The type in which all of the trace was computed that differs, though it was recorded as `F32`.
    computed_in: Option<&'static str>,
}

/// Fewer records than this lie on the grid of a coarser type by chance too easily.
const ENOUGH: usize = 4;

impl Origins {
    /// Looks at all pairs first: which inputs belong to which call, and which processes diverge.
    pub(crate) fn of(pairs: &[Pair]) -> Self {
        let mut origins = Self::default();
        let mut calls: HashMap<Call, [HashMap<Option<&str>, usize>; 2]> = HashMap::new();
        let is_input = |pair: &Pair| pair.key.io.as_deref() == Some("in");
        let stages: HashSet<&str> = pairs.iter().filter(|pair| is_input(pair)).map(|pair| &*pair.key.stage).collect();
        for pair in pairs {
            let position = pair.key.position();
            if pair.is_divergence() {
                origins.diverged.insert(position.process);
            }
            if stages.contains(&*pair.key.stage) {
                let of = calls.entry(without_call(position, &pair.key.stage)).or_default();
                *of[usize::from(is_input(pair))].entry(pair.key.output.as_deref()).or_default() += 1;
            }
        }
        origins.computed_in = computed_in(pairs);
        for (call, [outputs, inputs]) in calls {
            let outputs = outputs.values().max();
            if inputs.values().any(|count| Some(count) != outputs) {
                origins.unrelated.insert(call);
            }
        }
        origins
    }

    /// Says where a pair's error comes from, and remembers the pair for those that follow.
    pub(crate) fn place(&mut self, pair: &mut Pair) {
        let position = pair.key.position();
        let scope = (position.process, position.request);
        let call = || (position, Arc::clone(&pair.key.stage));
        let is_weight = pair.key.io.as_deref() == Some("weight");
        match pair.key.io.as_deref() {
            _ if is_weight && !pair.compared => return,
            io if !pair.compared => {
                if io == Some("in") {
                    self.inputs.entry(call()).or_default().unknown = true;
                }
                let before = self.before.entry(scope).or_default();
                before.apart = true;
                before.nonfinite |= pair.is_nonfinite();
                return;
            }
            Some("in") => self.inputs.entry(call()).or_default().add(pair),
            None if pair.is_divergence() => {
                let inputs = self.inputs.get(&call());
                let related = !self.unrelated.contains(&without_call(position, &pair.key.stage));
                let elsewhere = self.diverged.iter().any(|process| *process != position.process);
                let inputs = inputs.filter(|inputs| related && inputs.compared > 0);
                self.before_all(scope).explain(pair, inputs, elsewhere);
                pair.excuse_rounding(self.computed_in);
            }
            _ => {}
        }
        let before = self.before.entry(scope).or_default();
        before.add(pair);
        // A weight is there before everything, and is no stage.
        before.errors.compared -= usize::from(is_weight);
    }

    /// What came before in the request, and in what belongs to all requests: weights, embeddings.
    fn before_all(&self, scope: (u32, Option<u64>)) -> Before {
        let mut before = self.before.get(&scope).cloned().unwrap_or_default();
        if let Some(general) = self.before.get(&(scope.0, None)).filter(|_| scope.1.is_some()) {
            before.errors.merge(&general.errors);
            before.nonfinite |= general.nonfinite;
            before.apart |= general.apart;
        }
        before
    }
}

/// The coarser type of which all records of the trace are that differ.
fn computed_in(pairs: &[Pair]) -> Option<&'static str> {
    let details = pairs.iter().filter(|pair| pair.compared).filter_map(|pair| pair.details.as_ref());
    let mut types = details.map(|details| details.computed_in[1]);
    let first = types.next()??;
    let mut count = 1;
    // All that BF16 holds F16 holds too, within its range.
    let coarsest = types.try_fold(first, |coarsest, found| {
        count += 1;
        Some(if found? == "F16" { "F16" } else { coarsest })
    })?;
    (count >= ENOUGH).then_some(coarsest)
}

impl Pair {
    /// A trace that was computed in a coarser type throughout has no stage that rounds by mistake.
    fn excuse_rounding(&mut self, computed_in: Option<&'static str>) {
        let Some(dtype) = computed_in else { return };
        if let Some(details) = &mut self.details
            && matches!(details.cause, Some(Cause::RoundedTo(_)))
        {
            details.cause = None;
            details.note = Some(format!("all that differs in the trace was computed in {dtype}"));
        }
    }
}

fn without_call(position: Position, stage: &Arc<str>) -> Call {
    (Position { call: 0, ..position }, Arc::clone(stage))
}

fn error_of(pair: &Pair) -> Option<f64> {
    pair.details.as_ref()?.difference.as_ref()?.rel_l2
}

impl Errors {
    fn merge(&mut self, other: &Self) {
        self.compared += other.compared;
        self.differs |= other.differs;
        self.diverged |= other.diverged;
        self.unknown |= other.unknown;
        self.largest = self.largest.max(other.largest);
    }

    fn add(&mut self, pair: &Pair) {
        self.compared += 1;
        if pair.verdict == Verdict::Identical {
            return;
        }
        self.differs = true;
        self.diverged |= pair.is_divergence();
        match error_of(pair) {
            Some(error) => self.largest = self.largest.max(error),
            None => self.unknown = true,
        }
    }
}

/// The error of a pair, and how large an error is usual between its types.
struct Size {
    /// `None` where it is not known, or not finite.
    error: Option<f64>,
    usual: f64,
}

impl Size {
    fn of(details: &Details, verdict: Verdict) -> Self {
        let known = details.difference.as_ref().and_then(|difference| difference.rel_l2);
        let dtype = |side: usize| details.computed_in[side].or(details.dtypes[side].as_deref()).unwrap_or("");
        Self { error: known.filter(|_| verdict != Verdict::Nonfinite), usual: usual_error([dtype(0), dtype(1)]) }
    }

    /// Whether the error is many times the largest one before, and nothing makes it of that.
    fn jumps_over(&self, before: &Errors) -> bool {
        self.error.is_some_and(|error| {
            error > JUMP * before.largest.max(self.usual) && (error > QUANTISED || !before.differs)
        })
    }
}

impl Before {
    fn add(&mut self, pair: &Pair) {
        self.errors.add(pair);
        self.nonfinite |= pair.verdict == Verdict::Nonfinite;
    }

    /// Gives a diverged pair its origin, as far as its inputs or the pairs before tell; `elsewhere`
    /// says whether another process diverges.
    fn explain(&self, pair: &mut Pair, inputs: Option<&Errors>, elsewhere: bool) {
        let Some(details) = &mut pair.details else { return };
        let size = Size::of(details, pair.verdict);
        let largest = self.errors.largest;
        details.gain = size.error.filter(|_| largest > 0.0).map(|error| error / largest);
        if pair.verdict == Verdict::Nonfinite && details.cause.is_none() && details.trace_has_more_nonfinite() {
            let inherited = self.nonfinite.then_some(Cause::NonfiniteInherited);
            details.cause = inherited.or((self.errors.compared > 0).then_some(Cause::NonfiniteBorn));
        }
        details.origin = match inputs {
            Some(inputs) => by_inputs(&size, inputs),
            None => self.by_pairs_before(&size, pair.verdict, elsewhere),
        };
    }

    fn by_pairs_before(&self, size: &Size, verdict: Verdict, elsewhere: bool) -> Option<Origin> {
        // Where nothing was compared before, its inputs may differ.
        if self.errors.compared == 0 {
            return None;
        }
        if verdict == Verdict::Nonfinite && self.nonfinite {
            return Some(Origin::ErrorWasThere);
        }
        if self.errors.unknown || elsewhere {
            return None;
        }
        match verdict {
            Verdict::Nonfinite => (!self.errors.diverged).then_some(self.here()),
            Verdict::Shape | Verdict::Dtype => (!self.errors.differs).then_some(self.here()),
            _ if size.jumps_over(&self.errors) => Some(self.here()),
            _ => (size.error.is_some() && self.errors.differs).then_some(Origin::ErrorWasThere),
        }
    }

    /// The error arose after what was compared before.
    fn here(&self) -> Origin {
        match (self.apart, self.errors.differs) {
            (true, _) => Origin::Between,
            (false, false) => Origin::BeforeIdentical,
            (false, true) => Origin::ErrorJumps,
        }
    }
}

fn by_inputs(size: &Size, inputs: &Errors) -> Option<Origin> {
    if !inputs.differs && !inputs.unknown {
        Some(Origin::InputsMatch)
    } else if inputs.diverged {
        Some(Origin::InputsDiffer)
    } else if inputs.unknown || size.error.is_none() {
        None
    } else if size.jumps_over(inputs) {
        Some(Origin::GainJumps)
    } else {
        Some(Origin::ErrorWasThere)
    }
}
