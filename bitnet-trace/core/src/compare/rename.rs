//! Applies a map of names to the records of a side, once all of them are known.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::record::pattern::Pattern;

use super::entry::Entry;
use super::key::Position;
use super::map::{NameMap, NameRule, RuleTarget};
use super::measure::Step;

/// A record with the name that the rules are matched against.
pub(crate) struct Waiting {
    /// The entry as it is without a map.
    pub(crate) entry: Entry,
    pub(crate) name: Arc<str>,
}

/// A record after a rule was applied.
pub(crate) struct Renamed<'m> {
    pub(crate) entry: Entry,
    pub(crate) stage: &'m str,
    /// Whether the label is kept. It is if the rule matched the stage; else the label is a part of the matched name.
    pub(crate) keeps_output: bool,
    pub(crate) steps: &'m Arc<[Step]>,
}

/// The entries of a side.
#[derive(Default)]
pub(crate) struct Sorted {
    pub(crate) entries: Vec<Entry>,
    /// The entries that the map leaves out.
    pub(crate) left_out: Vec<Entry>,
}

/// Applies the map to the records of a side. `entry` makes an entry from a renamed record.
pub(crate) fn rename<'m>(
    map: &'m NameMap,
    mut waiting: Vec<Waiting>,
    mut entry: impl FnMut(Renamed<'m>) -> Entry,
) -> Sorted {
    // Records of one name are counted in execution order.
    waiting.sort_by_key(|Waiting { entry, .. }| (entry.position.process, entry.order));
    let tried: Vec<Option<MatchedText<'_>>> = waiting.iter().map(|waiting| tried(map, waiting)).collect();
    let there = PresentNames::of(map, &waiting, &tried);
    let mut counter = Counter::default();
    let found: Vec<FoundRules<'m>> =
        waiting.iter().zip(tried).map(|(waiting, tried)| counter.find(&there, waiting, tried)).collect();
    let mut sorted = Sorted::default();
    for (Waiting { entry: as_recorded, .. }, found) in waiting.into_iter().zip(found) {
        let FoundRules { hits, call, keeps_output, before } = found;
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
                RuleTarget::Ignored => sorted.left_out.push(as_recorded),
                RuleTarget::Optional(stage) => sorted.left_out.push(renamed(first, stage)),
                RuleTarget::Stage(stage) => {
                    sorted.entries.push(renamed(first, stage));
                    // The first rule applies. If it takes a slice, the rules for other slices apply too.
                    for hit in fitting.filter(|hit| first.rule.is_slice() && hit.rule.is_slice()) {
                        if let RuleTarget::Stage(stage) = &hit.rule.to {
                            sorted.entries.push(renamed(hit, stage));
                        }
                    }
                }
            },
        }
    }
    sorted
}

/// A rule whose pattern matches a name.
struct Hit<'m> {
    rule: &'m NameRule,
    layer: Option<usize>,
    seq: Option<usize>,
}

/// The rules that match a record. How often its name occurs then decides which of them apply.
struct FoundRules<'m> {
    hits: Vec<Hit<'m>>,
    /// How many records of the same name came before in the same pass.
    call: usize,
    keeps_output: bool,
    /// The layer of the record before it.
    before: Option<usize>,
}

/// The text of a record that rules match.
struct MatchedText<'m> {
    /// The index of the text among the candidates.
    which: usize,
    hits: Vec<Hit<'m>>,
}

/// The first text of a record that a rule matches, with all rules that match it.
fn tried<'m>(map: &'m NameMap, waiting: &Waiting) -> Option<MatchedText<'m>> {
    candidates(waiting).enumerate().find_map(|(which, candidate)| {
        let hit = |rule: &'m NameRule| {
            let numbers = rule.from.indices(candidate.text)?;
            Some(Hit { rule, layer: numbers.layer, seq: numbers.seq })
        };
        let hits: Vec<Hit<'m>> = map.rules().iter().filter_map(hit).collect();
        (!hits.is_empty()).then_some(MatchedText { which, hits })
    })
}

/// A text that rules are matched against, with the repeat number of the record if the name has one.
struct Candidate<'w> {
    text: &'w str,
    number: Option<usize>,
    is_stage: bool,
}

/// The texts of a record: its name, the last part of its name, and its stage. A number after `#` or after a dot is a
/// repeat number: it tells records of one name apart, as the labels of the tensors of a tuple do.
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
    // The stage is often the last part of the name again.
    let stage = Candidate { text: &entry.kind.label.stage, number, is_stage: true };
    let stage = Some(stage).filter(|stage| ![Some(base), last].contains(&Some(stage.text)));
    [Some(of(base, number)), numbered(base), last.map(|last| of(last, number)), last.and_then(numbered), stage]
        .into_iter()
        .flatten()
}

/// The names of a side that rules ask for in `beside` and `without`, with their layers.
struct PresentNames<'m>(HashMap<&'m str, HashSet<Option<usize>>, RandomState>);

impl<'m> PresentNames<'m> {
    fn of(map: &'m NameMap, waiting: &[Waiting], tried: &[Option<MatchedText<'_>>]) -> Self {
        let asked = map.rules().iter().flat_map(|rule| rule.beside.iter().chain(&rule.without));
        let patterns: HashMap<&str, &Pattern> = asked.map(|pattern| (pattern.text(), pattern)).collect();
        let mut there = Self(HashMap::default());
        for (waiting, tried) in waiting.iter().zip(tried) {
            // A rule may also ask for a name that no rule matches.
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

    /// Whether the side has the name; in the layer of the record, if the pattern has a layer.
    fn has(&self, pattern: &Pattern, layer: Option<usize>) -> bool {
        let Some(layers) = self.0.get(pattern.text()) else { return false };
        layer.is_none() || layers.contains(&layer) || layers.contains(&None)
    }
}

/// Counts the records of each name.
#[derive(Default)]
struct Counter<'m> {
    counts: HashMap<(StepKey, Arc<str>), Count, RandomState>,
    /// The largest number of times that a name occurs in a pass, by the pattern of its rules.
    most: HashMap<&'m str, usize, RandomState>,
    run: StepKey,
    layer: Option<usize>,
    /// A number that grows whenever the records come to another layer. It tells the passes through a layer apart.
    stretch: usize,
}

/// Process, request and step.
type StepKey = (u32, Option<u64>, Option<usize>);

#[derive(Default)]
struct Count {
    next: usize,
    /// The number of the first record of this pass.
    first: usize,
    stretch: Option<usize>,
}

impl<'m> Counter<'m> {
    fn find(&mut self, there: &PresentNames<'m>, waiting: &Waiting, tried: Option<MatchedText<'m>>) -> FoundRules<'m> {
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
            return FoundRules { hits, call: 0, keeps_output: true, before };
        };
        let of_name = hits.iter().find_map(|hit| hit.layer);
        let layer = position.layer.or(of_name).or(before.filter(|_| first.rule.layer_before));
        if layer.is_none() && matches!(first.rule.to, RuleTarget::Stage(_)) {
            // The record stands before the first layer or after the last.
            (self.layer, self.stretch) = (None, self.stretch + 1);
        }
        self.goes_to(layer);
        let call = self.count(run, &candidate, layer.is_some());
        for hit in hits.iter().filter(|hit| hit.rule.of.is_some()) {
            let most = self.most.entry(hit.rule.from.text()).or_default();
            *most = call.saturating_add(1).max(*most);
        }
        FoundRules { hits, call, keeps_output: candidate.is_stage, before }
    }

    fn goes_to(&mut self, layer: Option<usize>) {
        if layer.is_some() && layer != self.layer {
            (self.layer, self.stretch) = (layer, self.stretch + 1);
        }
    }

    /// How many records of the name came before; in the same pass, if the name belongs to a layer.
    fn count(&mut self, run: StepKey, candidate: &Candidate<'_>, in_layer: bool) -> usize {
        let count = self.counts.entry((run, candidate.text.into())).or_default();
        let number = candidate.number.unwrap_or(count.next);
        count.next = number.saturating_add(1).max(count.next);
        if in_layer && count.stretch.replace(self.stretch).is_some_and(|stretch| stretch != self.stretch) {
            count.first = number;
        }
        number.saturating_sub(count.first)
    }
}
