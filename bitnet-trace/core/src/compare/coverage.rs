//! Counts the records that were not compared, and the adaptations, by stage.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::adaptation::{Adaptation, Adapted, Coverage, Where};
use super::comparison::Pair;
use super::key::Key;
use super::verdict::Verdict;

/// Groups the pairs that were not compared by stage, side and reason, in the order of their first pair.
pub(crate) fn coverage(pairs: &[Pair]) -> Vec<Coverage> {
    let mut numbers: HashMap<(String, Where, Option<&str>), usize> = HashMap::new();
    let mut groups: Vec<(Coverage, BTreeSet<usize>)> = Vec::new();
    for pair in pairs {
        let side = match pair.verdict {
            Verdict::OnlyReference => Where::Reference,
            Verdict::OnlyTrace => Where::Trace,
            _ if !pair.compared => Where::Both,
            _ => continue,
        };
        let stage = stage_of(&pair.key) + pair.key.mark();
        let note = pair.details.as_ref().and_then(|details| details.note.as_deref());
        let number = *numbers.entry((stage.clone(), side, note)).or_insert_with(|| {
            let note = note.map(str::to_owned);
            groups.push((Coverage { stage, side, records: 0, layers: Vec::new(), note }, BTreeSet::new()));
            groups.len() - 1
        });
        let (group, layers) = &mut groups[number];
        group.records += 1;
        layers.extend(pair.key.layer);
    }
    let finished = groups.into_iter().map(|(group, layers)| Coverage { layers: layers.into_iter().collect(), ..group });
    finished.collect()
}

/// The stage with the label that tells its tensors apart: `qkv.q`, `q_proj.in.x`, `attn.let.q`.
pub(crate) fn stage_of(key: &Key) -> String {
    let mut stage = key.stage.to_string();
    if let Some(io @ ("in" | "let")) = key.io.as_deref() {
        stage.push('.');
        stage.push_str(io);
    }
    if let Some(output) = &key.output {
        stage.push('.');
        stage.push_str(output);
    }
    stage
}

/// Collects the adaptations that were made.
#[derive(Debug, Default)]
pub(crate) struct Adaptations(Vec<Adapted>);

impl Adaptations {
    pub(crate) fn add(&mut self, adaptation: Adaptation, key: &Key) {
        let at = self.0.iter().position(|adapted| adapted.adaptation == adaptation).unwrap_or_else(|| {
            self.0.push(Adapted { adaptation, pairs: 0, stages: BTreeMap::new() });
            self.0.len() - 1
        });
        let adapted = &mut self.0[at];
        adapted.pairs += 1;
        match adapted.stages.get_mut(&*key.stage) {
            Some(count) => *count += 1,
            None => drop(adapted.stages.insert(key.stage.to_string(), 1)),
        }
    }

    pub(crate) fn into_list(mut self) -> Vec<Adapted> {
        self.0.sort_by_key(|adapted| adapted.adaptation);
        self.0
    }
}
