//! candle's models, annotated, against Hugging Face transformers with the same weights and tokens: the presets bring
//! their records together, and a fault is found where it is.

mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bitnet_trace::Tolerance;
use bitnet_trace::compare::{Comparison, DiffOptions, NameMap, Pair, Verdict, diff_paths};
use runs::{LAYERS, STEPS, candle, transformers, weights};

/// A model of candle, and what of it is compared.
struct Model {
    name: &'static str,
    preset: &'static str,
    /// The model of transformers with the same weights.
    family: &'static str,
    /// The stages of transformers that the file has no name for.
    missing: &'static [&'static str],
}

const fn model(name: &'static str, missing: &'static [&'static str]) -> Model {
    Model { name, preset: name, family: name, missing }
}

const MODELS: [Model; 6] = [
    model("llama", &["ffn_norm", "gate_act", "gate_proj", "up_proj"]),
    model("qwen2", &["ffn_act", "ffn_norm", "gate_proj"]),
    model("mistral", &["ffn_act", "ffn_norm", "final_norm", "gate_proj"]),
    model("gemma", &["ffn_act", "gate_proj"]),
    Model { family: "llama", ..model("quantized_llama", &["ffn_act", "gate_act"]) },
    Model { family: "llama", preset: "quantized_llama", ..model("quantized_llama by hand", &["ffn_act", "gate_act"]) },
];

/// The stages of transformers in a layer.
const LAYER_STAGES: [&str; 17] = [
    "attn_norm",
    "q_proj",
    "k_proj",
    "v_proj",
    "q_rope",
    "k_rope",
    "attn_scores_softmax",
    "attn_ctx",
    "o_proj",
    "attn_residual",
    "ffn_norm",
    "gate_proj",
    "gate_act",
    "up_proj",
    "ffn_act",
    "down_proj",
    "block_out",
];
/// Those that are in no layer.
const OTHER_STAGES: [&str; 3] = ["embeddings", "final_norm", "logits"];

fn compared(reference: &Path, trace: &Path, preset: &str) -> Comparison {
    compared_by(reference, trace, ["hf", &format!("candle-transformers/{preset}")])
}

fn compared_by(reference: &Path, trace: &Path, presets: [&str; 2]) -> Comparison {
    let [one, other] = presets.map(|name| NameMap::preset(name).expect("a preset"));
    let map = one.and(other);
    let options = DiffOptions::default().with_tolerance(Tolerance::rel_l2(1e-5)).with_map(map);
    diff_paths(reference, trace, &options, &mut |_, _| ()).expect("readable")
}

/// The stages of these pairs with the layer of each, and how often each occurs.
fn stages<'c>(pairs: impl Iterator<Item = &'c Pair>) -> BTreeMap<(Option<usize>, &'c str), usize> {
    let mut stages = BTreeMap::new();
    for pair in pairs {
        *stages.entry((pair.key.layer, &*pair.key.stage)).or_default() += 1;
    }
    stages
}

#[test]
fn every_stage_that_a_model_names_matches_transformers() {
    for Model { name, preset, family, missing } in MODELS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (reference, trace) = (dir.path().join("transformers"), dir.path().join("candle"));
        transformers(family, &reference);
        candle(name, weights(family), &trace, |position| position);
        let comparison = compared(&reference, &trace, preset);
        // Every stage, in every layer, in every step.
        let layers = || (0..LAYERS).map(Some);
        let in_layers = layers().flat_map(|layer| LAYER_STAGES.map(|stage| (layer, stage)));
        let all = || in_layers.clone().chain(OTHER_STAGES.map(|stage| (None, stage)));
        let expected = |wanted: &dyn Fn(&str) -> bool| -> BTreeMap<_, _> {
            all().filter(|(_, stage)| wanted(stage)).map(|stage| (stage, STEPS.len())).collect()
        };
        let is = |verdicts: &'static [Verdict]| {
            let pairs = comparison.pairs.iter().filter(|pair| verdicts.contains(&pair.verdict));
            stages(pairs.filter(|pair| pair.compared || pair.verdict == Verdict::OnlyReference))
        };
        let matching = is(&[Verdict::Identical, Verdict::Within]);
        assert_eq!(matching, expected(&|stage| !missing.contains(&stage)), "{name}: {comparison}");
        // `gate_act` is left out unless both sides have it.
        let alone = is(&[Verdict::OnlyReference]);
        assert_eq!(alone, expected(&|stage| missing.contains(&stage) && stage != "gate_act"), "{name}: {comparison}");
        // And nothing of the model is noise.
        assert_eq!(comparison.pairs.len(), (matching.len() + alone.len()) * STEPS.len(), "{name}: {comparison}");
        assert!(comparison.ignored[1] > 100 && comparison.problems.is_empty(), "{name}: {comparison}");
        // Whichever preset comes first, and whichever side is the reference.
        let turned = compared_by(&trace, &reference, [&format!("candle-transformers/{preset}"), "hf"]);
        assert_eq!(turned.compared(), comparison.compared(), "{name}: {turned}");
        assert_eq!(turned.count(Verdict::Diverged), 0, "{name}: {turned}");
        assert_eq!(turned.pairs.len(), comparison.pairs.len(), "{name}: {turned}");
    }
}

#[test]
fn a_weight_that_is_one_per_cent_too_large_is_found_at_its_projection() {
    for Model { name, preset, family, .. } in MODELS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (reference, trace) = (dir.path().join("transformers"), dir.path().join("candle"));
        transformers(family, &reference);
        let mut weights = weights(family);
        let weight = weights.get_mut("model.layers.1.self_attn.q_proj.weight").expect("a weight");
        *weight = (&*weight * 1.01).expect("a tensor");
        candle(name, weights, &trace, |position| position);
        let comparison = compared(&reference, &trace, preset);
        let first = comparison.first_divergence().unwrap_or_else(|| panic!("{name}: {comparison}"));
        assert_eq!((first.key.seq, first.key.layer, &*first.key.stage), (Some(0), Some(1), "q_proj"), "{comparison}");
    }
}

#[test]
fn a_position_that_is_off_by_one_is_found_at_the_rotation() {
    for Model { name, preset, family, .. } in MODELS {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (reference, trace) = (dir.path().join("transformers"), dir.path().join("candle"));
        transformers(family, &reference);
        // The prompt's positions are right, those of the tokens after it are not.
        candle(name, weights(family), &trace, |position| if position == 0 { 0 } else { position + 1 });
        let comparison = compared(&reference, &trace, preset);
        let first = comparison.first_divergence().unwrap_or_else(|| panic!("{name}: {comparison}"));
        assert_eq!((first.key.seq, first.key.layer, &*first.key.stage), (Some(1), Some(0), "q_rope"), "{comparison}");
        let in_first_layer = comparison.pairs.iter().filter(|pair| pair.key.layer == Some(0) && pair.is_divergence());
        let stages: BTreeSet<&str> = in_first_layer.map(|pair| &*pair.key.stage).collect();
        assert!(stages.contains("k_rope") && !stages.contains("q_proj"), "{name}: {comparison}");
    }
}
