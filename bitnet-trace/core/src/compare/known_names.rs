//! What a map of names makes of names that are known before anything is recorded, such as the modules of a model.

use std::collections::HashMap;

use crate::record::pattern::Pattern;

use super::map::{NameMap, NameRule, RuleTarget};

/// What a rule makes of the tensors that are recorded under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameTarget {
    /// The rule is only for this one of the tensors that are recorded under the name in a pass, counted from 0; `None`
    /// for all of them.
    pub call: Option<usize>,
    /// The stage; `None` if the rule leaves the tensors out.
    pub stage: Option<String>,
    /// Whether the tensors are left out of a comparison unless the other side has the stage.
    pub optional: bool,
    /// The layer that the name holds.
    pub layer: Option<usize>,
}

impl NameMap {
    /// The rules that apply to each of these names, in the order in which they are tried. `beside` and `without` look
    /// at the same names. Rules that depend on what a run records (`of`) do not apply.
    ///
    /// ```
    /// # use bitnet_trace_core::compare::NameMap;
    /// let map = NameMap::preset("hf").unwrap();
    /// let targets = map.targets(&["model.layers.3.self_attn.q_proj", "model.layers.3.self_attn", "my_head"]);
    /// assert_eq!((targets[0][0].stage.as_deref(), targets[0][0].layer), (Some("q_proj"), Some(3)));
    /// assert_eq!(targets[1][0].stage, None); // left out: it returns the output of `o_proj`
    /// assert!(targets[2].is_empty()); // no rule: the record keeps its name
    /// ```
    #[must_use]
    pub fn targets(&self, names: &[&str]) -> Vec<Vec<NameTarget>> {
        let mut there = PresentLayers::default();
        let rules = || self.rules().iter().filter(|rule| rule.of.is_none());
        names
            .iter()
            .map(|name| {
                rules()
                    .filter_map(|rule| target(rule, name, &mut |pattern, layer| there.has(names, pattern, layer)))
                    .collect()
            })
            .collect()
    }
}

fn target<'m>(
    rule: &'m NameRule,
    name: &str,
    has: &mut impl FnMut(&'m Pattern, Option<usize>) -> bool,
) -> Option<NameTarget> {
    let layer = rule.from.indices(name)?.layer;
    if !rule.beside.iter().all(|pattern| has(pattern, layer)) || rule.without.iter().any(|pattern| has(pattern, layer))
    {
        return None;
    }
    let stage = match &rule.to {
        RuleTarget::Stage(stage) | RuleTarget::Optional(stage) => Some(stage.clone()),
        RuleTarget::Ignored => None,
    };
    let optional = matches!(rule.to, RuleTarget::Optional(_));
    Some(NameTarget { call: rule.call, stage, optional, layer })
}

/// The layers of the names that match a pattern, found when a rule first asks for it.
#[derive(Default)]
struct PresentLayers<'m>(HashMap<&'m str, Vec<Option<usize>>>);

impl<'m> PresentLayers<'m> {
    /// Whether a name matches; in the layer, if the pattern has a layer.
    fn has(&mut self, names: &[&str], pattern: &'m Pattern, layer: Option<usize>) -> bool {
        let found = || names.iter().filter_map(|name| Some(pattern.indices(name)?.layer)).collect();
        let layers = self.0.entry(pattern.text()).or_insert_with(found);
        !layers.is_empty() && (layer.is_none() || layers.contains(&layer) || layers.contains(&None))
    }
}

#[cfg(test)]
mod tests {
    use super::{NameMap, NameTarget};

    /// The first rule of each name: the stage, `-` if it is left out, or an empty text if there is no rule.
    fn stages(names: &[&str]) -> Vec<String> {
        let map = NameMap::preset("hf").expect("the preset");
        let first = |rules: Vec<NameTarget>| {
            let first = rules.into_iter().next();
            first.map_or_else(String::new, |rule| rule.stage.unwrap_or_else(|| "-".to_owned()))
        };
        map.targets(names).into_iter().map(first).collect()
    }

    #[test]
    fn a_name_is_mapped_by_what_stands_beside_it() {
        let norm = "model.layers.0.post_attention_layernorm";
        assert_eq!(stages(&[norm]), ["ffn_norm"]);
        assert_eq!(stages(&[norm, "model.layers.0.pre_feedforward_layernorm"]), ["attn_post_norm", "ffn_norm"]);
        assert_eq!(stages(&["norm", "layers.0.mlp"]), ["final_norm", "-"]);
        assert_eq!(stages(&["norm"]), [""]);
    }

    #[test]
    fn a_stage_that_not_every_program_has_is_marked() {
        let map = NameMap::preset("hf").expect("the preset");
        let targets = map.targets(&["model.layers.0.mlp.act_fn", "model.layers.0.mlp.up_proj"]);
        let found: Vec<_> = targets.iter().map(|rules| (rules[0].stage.as_deref(), rules[0].optional)).collect();
        assert_eq!(found, [(Some("gate_act"), true), (Some("up_proj"), false)]);
    }

    #[test]
    fn a_name_with_several_tensors_has_a_rule_for_each() {
        let map = NameMap::preset("hf").expect("the preset");
        let targets = map.targets(&["model.layers.7"]);
        let found: Vec<_> = targets[0].iter().map(|rule| (rule.call, rule.stage.as_deref(), rule.layer)).collect();
        assert_eq!(found, [(Some(0), Some("block_out"), Some(7)), (None, None, Some(7))]);
    }
}
