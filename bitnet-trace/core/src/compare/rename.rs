//! Gives records the names that a map has for them, once all records of a side are known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::record::pattern::Pattern;

use super::builder::in_order;
use super::entry::Entry;
use super::key::{Label, Position};
use super::map::{NameMap, Rule, Target};
use super::measure::Step;
use super::side::Side;

/// A record, with the name that rules are tried on.
pub(crate) struct Waiting {
    /// As it is without a map.
    pub(crate) entry: Entry,
    pub(crate) name: Arc<str>,
}

/// What a rule makes of a record.
pub(crate) struct Renamed<'m> {
    pub(crate) entry: Entry,
    pub(crate) stage: &'m str,
    /// The label is kept where the rule was found by the stage, and belongs to the name elsewhere.
    pub(crate) keeps_output: bool,
    pub(crate) steps: &'m Arc<[Step]>,
}

/// The entries of a side.
#[derive(Default)]
pub(crate) struct Sorted {
    pub(crate) entries: Vec<Entry>,
    /// What the map leaves out.
    pub(crate) left_out: Vec<Entry>,
}

/// Applies the map to the records of a side; `entry` makes an entry of what a rule says.
pub(crate) fn rename<'m>(
    map: &'m NameMap,
    mut waiting: Vec<Waiting>,
    mut entry: impl FnMut(Renamed<'m>) -> Entry,
) -> Sorted {
    // Which of several records of a name a record is, execution order tells.
    waiting.sort_by_key(|Waiting { entry, .. }| (entry.position.process, entry.order));
    let tried: Vec<Option<Tried<'_>>> = waiting.iter().map(|waiting| tried(map, waiting)).collect();
    let there = There::of(map, &waiting, &tried);
    let mut counter = Counter::default();
    let found: Vec<Found<'m>> =
        waiting.iter().zip(tried).map(|(waiting, tried)| counter.find(&there, waiting, tried)).collect();
    let mut sorted = Sorted::default();
    for (Waiting { entry: as_recorded, .. }, found) in waiting.into_iter().zip(found) {
        let Found { hits, call, keeps_output, before } = found;
        let fits = |hit: &&Hit<'m>| {
            hit.rule.call.is_none_or(|wanted| wanted == call)
                && hit.rule.of.is_none_or(|of| counter.most.get(hit.rule.from.text()) == Some(&of))
        };
        let mut renamed = |hit: &Hit<'m>, stage: &'m str| {
            let rule = hit.rule;
            let at = as_recorded.position;
            let layer = at.layer.or(hit.layer).or(before.filter(|_| rule.layer_before));
            let call = if rule.call.is_some() { 0 } else { call };
            let position = Position { layer, seq: at.seq.or(hit.seq), call, ..at };
            let of = Entry { position, ..as_recorded.clone() };
            entry(Renamed { entry: of, stage, keeps_output, steps: &rule.steps })
        };
        let mut fitting = hits.iter().filter(fits);
        match fitting.next() {
            None => sorted.entries.push(as_recorded),
            Some(first) => match &first.rule.to {
                Target::Ignored => sorted.left_out.push(as_recorded),
                Target::Optional(stage) => sorted.left_out.push(renamed(first, stage)),
                Target::Stage(stage) => {
                    sorted.entries.push(renamed(first, stage));
                    // The first rule decides; where it takes a slice, further slices have rules of their own.
                    for hit in fitting.filter(|hit| first.rule.is_slice() && hit.rule.is_slice()) {
                        if let Target::Stage(stage) = &hit.rule.to {
                            sorted.entries.push(renamed(hit, stage));
                        }
                    }
                }
            },
        }
    }
    sorted
}

/// A rule whose pattern a name has.
struct Hit<'m> {
    rule: &'m Rule,
    layer: Option<usize>,
    seq: Option<usize>,
}

/// What is found of a record before its rules are chosen by how often its name occurs.
struct Found<'m> {
    hits: Vec<Hit<'m>>,
    /// How many records of the name came before in the same pass.
    call: usize,
    keeps_output: bool,
    /// The layer of the record before it.
    before: Option<usize>,
}

/// The text of a record that rules fit.
struct Tried<'m> {
    /// Which of the candidates.
    which: usize,
    hits: Vec<Hit<'m>>,
}

/// The first text of a record that a rule fits decides.
fn tried<'m>(map: &'m NameMap, waiting: &Waiting) -> Option<Tried<'m>> {
    candidates(waiting).enumerate().find_map(|(which, candidate)| {
        let hit = |rule: &'m Rule| {
            let numbers = rule.from.indices(candidate.text)?;
            Some(Hit { rule, layer: numbers.layer, seq: numbers.seq })
        };
        let hits: Vec<Hit<'m>> = map.rules().iter().filter_map(hit).collect();
        (!hits.is_empty()).then_some(Tried { which, hits })
    })
}

/// A text that rules are tried on, with the number of the record if the name has one.
struct Candidate<'w> {
    text: &'w str,
    number: Option<usize>,
    is_stage: bool,
}

/// The name; its last part; its stage. A number behind `#`, or behind a dot, tells records of one
/// name apart, as labels of the tensors of a tuple do.
fn candidates(Waiting { entry, name }: &Waiting) -> impl Iterator<Item = Candidate<'_>> {
    let of = |text, number| Candidate { text, number, is_stage: false };
    let split = |text: &'_ str, at| -> Option<(usize, usize)> {
        let (base, number) = text.rsplit_once(at)?;
        Some((base.len(), number.parse().ok()?))
    };
    let (base, number) = match split(name, '#') {
        Some((end, number)) => (&name[..end], Some(number)),
        None => (&**name, Some(entry.position.call).filter(|call| *call > 0)),
    };
    let last = base.rsplit('/').next().filter(|last| last.len() < base.len());
    let dotted = move |text: &'_ str| split(text, '.');
    let numbered = move |text| dotted(text).map(|(end, number)| of(&text[..end], Some(number)));
    // As a rule the stage is the last part again.
    let stage = Candidate { text: &entry.kind.label.stage, number, is_stage: true };
    let stage = Some(stage).filter(|stage| ![Some(base), last].contains(&Some(stage.text)));
    [Some(of(base, number)), numbered(base), last.map(|last| of(last, number)), last.and_then(numbered), stage]
        .into_iter()
        .flatten()
}

/// Which of the names that rules ask for a side has, and in which layers.
struct There<'m>(HashMap<&'m str, HashSet<Option<usize>>, RandomState>);

impl<'m> There<'m> {
    fn of(map: &'m NameMap, waiting: &[Waiting], tried: &[Option<Tried<'_>>]) -> Self {
        let asked = map.rules().iter().flat_map(|rule| rule.beside.iter().chain(&rule.without));
        let patterns: HashMap<&str, &Pattern> = asked.map(|pattern| (pattern.text(), pattern)).collect();
        let mut there = Self(HashMap::default());
        for (waiting, tried) in waiting.iter().zip(tried) {
            // A text that no rule fits may be one that a rule asks for.
            let which = tried.as_ref().map(|tried| tried.which);
            let texts = candidates(waiting).enumerate().filter(|(at, _)| which.is_none_or(|which| which == *at));
            for (_, candidate) in texts {
                for (text, pattern) in &patterns {
                    if let Some(numbers) = pattern.indices(candidate.text) {
                        there.0.entry(text).or_default().insert(numbers.layer);
                    }
                }
            }
        }
        there
    }

    /// Whether the side has the name: in the record's layer, if the pattern has a layer.
    fn has(&self, pattern: &Pattern, layer: Option<usize>) -> bool {
        let Some(layers) = self.0.get(pattern.text()) else { return false };
        layer.is_none() || layers.contains(&layer) || layers.contains(&None)
    }
}

/// Counts the records of each name.
#[derive(Default)]
struct Counter<'m> {
    counts: HashMap<(Run, Arc<str>), Count, RandomState>,
    /// How often a name occurs in a pass at most, by the pattern of its rules.
    most: HashMap<&'m str, usize, RandomState>,
    run: Run,
    layer: Option<usize>,
    /// A pass through the model goes from layer to layer: grows by one with each of them.
    stretch: usize,
}

/// Process, request and step.
type Run = (u32, Option<u64>, Option<usize>);

#[derive(Default)]
struct Count {
    next: usize,
    /// The number of the first record of this pass.
    first: usize,
    stretch: Option<usize>,
}

impl<'m> Counter<'m> {
    fn find(&mut self, there: &There<'m>, waiting: &Waiting, tried: Option<Tried<'m>>) -> Found<'m> {
        let position = waiting.entry.position;
        let run = (position.process, position.request, position.seq);
        if self.run != run {
            (self.run, self.layer) = (run, None);
            self.stretch += 1;
        }
        let before = self.layer;
        let candidate = tried.as_ref().and_then(|tried| candidates(waiting).nth(tried.which));
        let mut hits = tried.map_or_else(Vec::new, |tried| tried.hits);
        hits.retain(|Hit { rule, layer, .. }| {
            let has = |pattern| there.has(pattern, position.layer.or(*layer));
            rule.beside.iter().all(has) && !rule.without.iter().any(has)
        });
        let (Some(candidate), Some(first)) = (candidate, hits.first()) else {
            self.goes_to(position.layer);
            return Found { hits, call: 0, keeps_output: true, before };
        };
        let of_name = hits.iter().find_map(|hit| hit.layer);
        let layer = position.layer.or(of_name).or(before.filter(|_| first.rule.layer_before));
        if layer.is_none() && matches!(first.rule.to, Target::Stage(_)) {
            // Before the first layer, or after the last.
            (self.layer, self.stretch) = (None, self.stretch + 1);
        }
        self.goes_to(layer);
        let call = self.count(run, &candidate, layer.is_some());
        for hit in hits.iter().filter(|hit| hit.rule.of.is_some()) {
            let most = self.most.entry(hit.rule.from.text()).or_default();
            *most = call.saturating_add(1).max(*most);
        }
        Found { hits, call, keeps_output: candidate.is_stage, before }
    }

    fn goes_to(&mut self, layer: Option<usize>) {
        if layer.is_some() && layer != self.layer {
            (self.layer, self.stretch) = (layer, self.stretch + 1);
        }
    }

    /// How many records of the name came before: in the pass, if the name belongs to a layer.
    fn count(&mut self, run: Run, candidate: &Candidate<'_>, in_layer: bool) -> usize {
        let count = self.counts.entry((run, candidate.text.into())).or_default();
        let number = candidate.number.unwrap_or(count.next);
        count.next = number.saturating_add(1).max(count.next);
        if in_layer && count.stretch.replace(self.stretch).is_some_and(|stretch| stretch != self.stretch) {
            count.first = number;
        }
        number.saturating_sub(count.first)
    }
}

/// Layers and stages of a side.
type Stages = HashSet<(Option<usize>, Label), RandomState>;

/// Compares what the map leaves out where both sides have it: no rule takes a record from its
/// partner.
pub(crate) fn take_back<'a>(reference: &mut Side<'a>, trace: &mut Side<'a>) {
    if reference.left_out.is_empty() && trace.left_out.is_empty() {
        return;
    }
    let stage = |entry: &Entry| (entry.position.layer, entry.kind.label.clone());
    let stages = |side: &Side<'_>| -> Stages { side.entries.iter().chain(&side.left_out).map(stage).collect() };
    let (of_reference, of_trace) = (stages(reference), stages(trace));
    for (side, other) in [(reference, of_trace), (trace, of_reference)] {
        let (mut back, out) =
            std::mem::take(&mut side.left_out).into_iter().partition(|entry| other.contains(&stage(entry)));
        side.left_out = out;
        side.entries.append(&mut back);
        in_order(&mut side.entries);
    }
}
