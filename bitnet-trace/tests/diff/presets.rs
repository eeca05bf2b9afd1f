//! Names of other programs: every node and module of the families that the presets know, and stages
//! of somebody's own, which they leave alone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bitnet_trace::compare::{Comparison, DiffOptions, NameMap, Pair, Verdict, diff_paths};
use bitnet_trace::{TraceContext, tap};

use crate::{Directory, noise, tensor, trace};

/// Layers of a model here.
const LAYERS: usize = 3;

/// A record of a foreign trace, and what it is here.
#[derive(Clone, Debug)]
struct Line {
    name: String,
    layer: Option<usize>,
    /// None: no stage of its own.
    stage: Option<String>,
    optional: bool,
}

/// The records of a pass, by the list of a family.
fn family(path: &Path) -> Vec<Line> {
    let text = fs::read_to_string(path).expect("a list of names");
    let lines = || text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let before = lines().take_while(|line| *line != "[layer]").map(|line| (None, line));
    let layer: Vec<&str> =
        lines().skip_while(|line| *line != "[layer]").skip(1).take_while(|line| *line != "[end]").collect();
    let layers = (0..LAYERS).flat_map(|index| layer.iter().map(move |line| (Some(index), *line)));
    let after = lines().skip_while(|line| *line != "[end]").skip(1).map(|line| (None, line));
    let of = |(number, (layer, line)): (usize, (Option<usize>, &str))| {
        let (name, stage) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("{}: {line}", path.display()));
        let index = layer.map_or_else(String::new, |layer| layer.to_string());
        let name = name.replace("{layer}", &index).replace("{n}", &number.to_string());
        let optional = stage.starts_with('~');
        let stage = Some(stage.trim_start_matches('~').to_owned()).filter(|stage| stage != "-");
        Line { name, layer, stage, optional }
    };
    before.chain(layers).chain(after).enumerate().map(of).collect()
}

fn families(preset: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diff/names").join(preset);
    let mut files: Vec<_> = fs::read_dir(folder).expect("lists").map(|file| file.expect("readable").path()).collect();
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    files
}

/// Told apart by its hash, and by its rms where the hash says nothing as the tensor is transposed.
fn record(name: &str, order: usize, content: usize) -> String {
    format!(
        r#"{{"name":"{name}","shape":[2,3,4],"dtype":"F32","num_elements":24,"rms":{content}.5,"blake3":"{content:064x}","order":{order}}}"#
    )
}

/// As the other program records it; what was computed is its place in the pass.
fn theirs<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    lines.enumerate().map(|(order, line)| record(&line.name, order, order) + "\n").collect()
}

/// The same, as this library would have recorded it.
fn ours<'a>(lines: impl Iterator<Item = &'a Line>, optional: bool) -> String {
    let ours = lines.enumerate().filter_map(|(order, line)| {
        let stage = line.stage.as_ref().filter(|_| optional || !line.optional)?;
        let name = line.layer.map_or_else(|| stage.clone(), |layer| format!("blk{layer}/{stage}"));
        Some(record(&name, order, order) + "\n")
    });
    ours.collect()
}

fn compared(reference: &str, trace: &str, map: NameMap) -> Comparison {
    let directory = Directory::new(&[("a.jsonl", reference), ("b.jsonl", trace)]);
    let options = DiffOptions::default().with_map(map);
    diff_paths(directory.path("a.jsonl"), directory.path("b.jsonl"), &options, &mut |_, _| ()).expect("readable")
}

fn preset(name: &str) -> NameMap {
    NameMap::preset(name).expect("a preset")
}

fn is_alone(pair: &Pair) -> bool {
    matches!(pair.verdict, Verdict::OnlyReference | Verdict::OnlyTrace)
}

/// That every pair is one record twice.
fn assert_partners(comparison: &Comparison, of: &str) {
    for pair in &comparison.pairs {
        assert!(!is_alone(pair), "{of}: {} is {}\n{:?}", pair.key, pair.verdict, pair.details);
        let rms = pair.details.as_ref().map_or([None, None], |details| details.rms);
        assert_eq!(rms[0], rms[1], "{of}: {} has a wrong partner", pair.key);
    }
}

/// Every record of a family is compared with the stage of ours that it is, or is left out.
#[test]
fn presets_know_every_name_of_their_families() {
    for world in ["hf", "llama.cpp"] {
        for file in families(world) {
            let of = file.display().to_string();
            let lines = family(&file);
            for optional in [false, true] {
                let comparison = compared(&theirs(lines.iter()), &ours(lines.iter(), optional), preset(world));
                assert_partners(&comparison, &of);
                let out = lines.iter().filter(|line| line.stage.is_none() || line.optional && !optional).count();
                assert_eq!(comparison.ignored, [out, 0], "{of}");
                // What has to be turned first takes values, which these have not.
                assert_eq!(comparison.compared() + comparison.not_compared(), lines.len() - out, "{of}");
                assert!(comparison.compared() > 7 * LAYERS, "{of}");
            }
            // Which side is whose does not matter, nor does a map for a third.
            let both = preset("hf").and(preset("llama.cpp"));
            let comparison = compared(&ours(lines.iter(), false), &theirs(lines.iter()), both);
            assert_partners(&comparison, &of);
        }
    }
}

/// A graph that is run again gives its names again, without a word of steps.
#[test]
fn passes_without_steps_are_told_apart() {
    for world in ["hf", "llama.cpp"] {
        for file in families(world) {
            let of = file.display().to_string();
            let lines = family(&file);
            let twice = || lines.iter().chain(&lines);
            let comparison = compared(&theirs(twice()), &ours(twice(), false), preset(world));
            assert_partners(&comparison, &of);
            assert_eq!(comparison.pairs.len() % 2, 0, "{of}");
            // The run stopped in the middle: what is there is still what it is.
            for end in [lines.len() / 2, lines.len() + 9, lines.len() + lines.len() / 2] {
                let comparison = compared(&theirs(twice().take(end)), &ours(twice().take(end), false), preset(world));
                assert_partners(&comparison, &format!("{of}, {end} records"));
            }
        }
    }
}

/// The records of a module are of the same computation as a node's: their stage and layer say which.
fn by_stage(lines: &[Line], stages: &mut Vec<(String, Option<usize>)>) -> String {
    let mut text = String::new();
    for (order, line) in lines.iter().enumerate() {
        let of = (line.stage.clone().unwrap_or_else(|| line.name.clone()), line.layer);
        let content = stages.iter().position(|known| *known == of).unwrap_or_else(|| {
            stages.push(of);
            stages.len() - 1
        });
        text += &(record(&line.name, order, content) + "\n");
    }
    text
}

#[test]
fn llama_cpp_is_compared_with_hugging_face() {
    // Most graphs have no name for the output projection.
    let unnamed = ["o_proj"].as_slice();
    for (graph, module, missing) in [
        ("llama", "llama", &[] as &[&str]),
        ("llama", "mistral", &[]),
        ("llama-flash", "llama", &[]),
        ("llama-older", "llama", &[]),
        ("bitnet", "bitnet", &[]),
        ("bitnet-scaled", "bitnet", &[]),
        ("llama-moe", "mixtral", &[]),
        ("qwen2", "qwen2", unnamed),
        ("qwen2-older", "qwen2", unnamed),
        ("qwen2moe", "qwen2-moe", unnamed),
        ("qwen3", "qwen3", unnamed),
        ("qwen3moe", "qwen3-moe", unnamed),
        ("qwen3moe", "qwen3-moe-older", unnamed),
        ("gemma2", "gemma2", unnamed),
        ("gemma3", "gemma3", unnamed),
        ("gemma3", "gemma3-multimodal", unnamed),
        ("phi3", "phi3", unnamed),
    ] {
        let of = format!("{graph}, {module}");
        let list = |world: &str, name: &str| {
            let file = families(world).into_iter().find(|file| file.file_stem().is_some_and(|stem| stem == name));
            family(&file.unwrap_or_else(|| panic!("{name}")))
        };
        let mut stages = Vec::new();
        let (nodes, modules) =
            (by_stage(&list("llama.cpp", graph), &mut stages), by_stage(&list("hf", module), &mut stages));
        let comparison = compared(&modules, &nodes, preset("hf").and(preset("llama.cpp")));
        let common: Vec<_> = comparison.pairs.iter().filter(|pair| !is_alone(pair)).collect();
        assert!(common.iter().all(|pair| pair.verdict == Verdict::Identical), "{of}: {comparison}");
        assert!(common.len() > 6 * LAYERS, "{of}: {comparison}");
        let alone = |verdict| -> BTreeSet<&str> {
            comparison.pairs.iter().filter(|pair| pair.verdict == verdict).map(|pair| &*pair.key.stage).collect()
        };
        let (modules, nodes) = (alone(Verdict::OnlyReference), alone(Verdict::OnlyTrace));
        assert_eq!(modules, missing.iter().copied().collect(), "{of}");
        // What happens between modules, hooks do not see.
        let between = ["q_rope", "k_rope", "attn_scores_softmax", "attn_ctx", "attn_residual", "ffn_act"];
        let beyond = nodes.into_iter().filter(|stage| !between.contains(stage) && !stage.starts_with("ffn_moe_"));
        let beyond: Vec<&str> = beyond.filter(|stage| !stage.starts_with("ffn_shexp")).collect();
        assert!(beyond.is_empty() || module == "qwen2-moe" && beyond == ["down_proj"], "{of}: {beyond:?}");
    }
}

/// Stages that look like names of other programs, and are not.
#[test]
fn stages_of_ones_own_are_left_alone() {
    let global = ["model", "norm", "embd", "my (x)", "node_embedding", "node_3", "cache_hit", "language_model"];
    let layered = ["norm_q", "norm2", "norm", "cache_k", "layers", "my (view)", "Qcur", "ffn", "mlp", "model"];
    let mine = || {
        trace("none", || {
            for (index, stage) in (1u32..).zip(global) {
                tap(stage, &tensor(&noise(index, 8)));
            }
            let _step = TraceContext::seq(0).enter();
            for layer in 0..LAYERS {
                let _layer = TraceContext::layer(layer).enter();
                for (index, stage) in (100u32..).zip(layered) {
                    tap(stage, &tensor(&noise(index, 8)));
                }
            }
        })
    };
    let lines = |trace: &bitnet_trace::Trace| -> String {
        trace.records().iter().map(|record| serde_json::to_string(record).expect("JSON") + "\n").collect()
    };
    let mine = lines(&mine());
    let both = || preset("hf").and(preset("llama.cpp"));
    let without = compared(&mine, &mine, NameMap::default());
    let with = compared(&mine, &mine, both());
    let keys =
        |comparison: &Comparison| -> Vec<String> { comparison.pairs.iter().map(|pair| pair.key.to_string()).collect() };
    assert_eq!((keys(&with), with.ignored, with.matches()), (keys(&without), [0, 0], true));
    assert_eq!(with.compared(), global.len() + LAYERS * layered.len());
    // Nor beside a trace of theirs, which has some of these names.
    for world in ["hf", "llama.cpp"] {
        for file in families(world) {
            let comparison = compared(&theirs(family(&file).iter()), &mine, both());
            assert_eq!(comparison.ignored[1], 0, "{}", file.display());
            for stage in layered.iter().chain(&global) {
                let has = comparison.pairs.iter().any(|pair| &*pair.key.stage == *stage);
                assert!(has, "{}: {stage} is gone", file.display());
            }
        }
    }
}

/// Two traces of one program have the names that a map leaves out on both sides.
#[test]
fn what_both_sides_have_is_compared_whatever_a_map_leaves_out() {
    for (world, family_of) in [("hf", "llama"), ("llama.cpp", "bitnet")] {
        let file = families(world).into_iter().find(|file| file.ends_with(format!("{family_of}.txt"))).expect("a list");
        let lines = family(&file);
        let text = theirs(lines.iter());
        let comparison = compared(&text, &text, preset(world));
        assert_eq!((comparison.compared(), comparison.ignored), (lines.len(), [0, 0]), "{world}");
        // One of those that are left out differs.
        let at = lines.iter().position(|line| line.stage.is_none() && line.layer == Some(1)).expect("one");
        let other = text.replace(&record(&lines[at].name, at, at), &record(&lines[at].name, at, 1_000_000));
        assert_ne!(text, other);
        let comparison = compared(&text, &other, preset(world));
        let first = comparison.first_divergence().expect("a difference");
        let names = &first.details.as_ref().expect("details").names;
        assert_eq!(*names, [0, 1].map(|_| Some(lines[at].name.clone())), "{comparison}");
    }
}

#[test]
fn a_slice_goes_with_slices_alone() {
    let map = |rest: &str| -> NameMap {
        let slice = |to, start, end| {
            format!("[[map]]\nfrom = \"wqkv\"\nto = \"{to}\"\nslice = {{ dim = -1, start = {start}, end = {end} }}\n")
        };
        format!("{}{rest}{}", slice("q", 0, 2), slice("k", 2, 4)).parse().expect("a map")
    };
    let keys = |map| {
        let (a, b) = (record("wqkv", 0, 0), record("x", 0, 0));
        let comparison = compared(&a, &b, map);
        // Were the fused tensor the rest too, it would be compared with the other side's.
        assert!(comparison.pairs.iter().all(is_alone), "{comparison}");
        comparison.pairs.iter().map(|pair| pair.key.to_string()).collect::<BTreeSet<_>>()
    };
    let set = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(keys(map("")), set(&["q", "k", "x"]));
    assert_eq!(keys(map("[[map]]\nfrom = \"*\"\nto = \"rest\"\n")), set(&["q", "k", "rest"]));
    assert_eq!(keys(map("[[map]]\nfrom = \"wqkv\"\nignore = true\n")), set(&["q", "k", "x"]));
}

#[test]
fn rules_ask_for_the_names_beside_them() {
    let map = r#"
        base = ["a.", "b."]
        [[map]]
        from = "{base}up.{layer}"
        beside = "{base}up_bias.{layer}"
        ignore = true
        [[map]]
        from = "{base}up.{layer}"
        to = "up"
        [[map]]
        from = "{base}up_bias.{layer}"
        to = "up"
        [[map]]
        from = "{base}down.{layer}"
        beside = ["{base}up.{layer}", "{base}up_bias.{layer}"]
        without = "other"
        to = "down"
        [[map]]
        from = "post"
        layer = "before"
        to = "post"
    "#;
    let map = || map.parse::<NameMap>().expect("a map");
    let names = ["a.up.0", "a.up_bias.0", "a.down.0", "post", "a.up.1", "a.down.1", "post", "b.up.1", "b.down.1"];
    let text =
        |names: &[&str]| names.iter().enumerate().map(|(at, name)| record(name, at, at) + "\n").collect::<String>();
    let keys = |names: &[&str]| {
        let comparison = compared(&text(names), &record("x", 0, 0), map());
        let keys = comparison.pairs.iter().filter(|pair| pair.verdict == Verdict::OnlyReference);
        (keys.map(|pair| pair.key.to_string()).collect::<Vec<_>>(), comparison.ignored[0])
    };
    let expected = ["blk0/up", "blk0/down", "blk0/post", "blk1/up", "a.down.1", "blk1/post", "blk1/up#1", "b.down.1"];
    assert_eq!(keys(&names), (expected.map(str::to_owned).to_vec(), 1));
    assert_eq!(keys(&["a.up.0", "a.up_bias.0", "a.down.0", "other"]).0, ["blk0/up", "a.down.0", "other"]);
    for (text, expected) in [
        ("[[map]]\nfrom = \"a\"\noptional = true\nignore = true", "`optional` goes with `to`"),
        ("[[map]]\nfrom = \"a\"\nbeside = \"{x}\"\nto = \"b\"", "line 1, column 1: `beside`: the pattern"),
        ("[[map]]\nfrom = \"a\"\nbeside = 3\nto = \"b\"", "line 3, column"),
        ("[[map]]\nfrom = \"a{n}\"\nlayer = \"after\"\nto = \"b\"", "line 3, column"),
        ("[[map]]\nfrom = \"{base}a\"\nto = \"b\"", "expected one of: `{layer}`"),
    ] {
        let error = text.parse::<NameMap>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// A local of a body is what a function of another world returns, if a rule says so. A rule for the function is not one
/// for its locals.
#[test]
fn a_rule_that_names_a_local_makes_it_a_stage() {
    let local = |layer: usize, variable: &str, order: usize| {
        record(&format!("t0/blk{layer}/attn.let.{variable}"), order, order) + "\n"
    };
    let result = |layer: usize, order| record(&format!("t0/blk{layer}/attn"), order, order) + "\n";
    let mine: String = (0..LAYERS)
        .map(|layer| {
            let at = layer * 4;
            local(layer, "q", at)
                + &local(layer, "q.2", at + 1)
                + &local(layer, "mask", at + 2)
                + &result(layer, at + 3)
        })
        .collect();
    let theirs: String = (0..LAYERS)
        .flat_map(|layer| {
            [("q_proj", 0), ("q_rope", 1), ("o_proj", 3)].map(|(stage, at)| (layer, stage, layer * 4 + at))
        })
        .map(|(layer, stage, at)| record(&format!("t0/blk{layer}/{stage}"), at, at) + "\n")
        .collect();
    let map = r#"
        [[map]]
        from = "attn.let.q"
        to = "q_proj"
        [[map]]
        from = "attn.let.q.2"
        to = "q_rope"
        [[map]]
        from = "attn.let.*"
        ignore = true
        [[map]]
        from = "attn"
        to = "o_proj"
    "#;
    let map = || map.parse::<NameMap>().expect("a map");
    for comparison in [compared(&theirs, &mine, map()), compared(&mine, &theirs, map())] {
        assert!(comparison.matches() && comparison.compared() == 3 * LAYERS, "{comparison}");
        assert_eq!(comparison.ignored.iter().sum::<usize>(), LAYERS, "{comparison}");
    }
    // Two traces of one program are compared in everything, by the names that they were given.
    let comparison = compared(&mine, &mine, map());
    assert!(comparison.matches() && comparison.compared() == 4 * LAYERS, "{comparison}");
    let comparison = compared(&mine, &mine, NameMap::default());
    assert_eq!(comparison.pairs[1].key.to_string(), "t0/blk0/attn.let.q.2");
    let comparison = compared(&mine, &theirs, NameMap::default());
    assert!(comparison.coverage.iter().any(|coverage| coverage.stage == "attn.let.q.2"), "{comparison}");
}

/// With a bare `#[traced(locals)]` every method `forward` has the stage `forward`.
#[test]
fn locals_of_a_bare_forward_are_known() {
    for (model, variables) in [
        ("llama", [("q", "q_proj"), ("k.3", "k_rope"), ("att.3", "attn_scores_softmax"), ("y.2", "attn_ctx")]),
        ("quantized_llama", [("w1", "gate_proj"), ("w3", "up_proj"), ("x.3", "attn_residual"), ("x.6", "block_out")]),
        (
            "qwen2",
            [("query_states", "q_proj"), ("key_states.3", "k_rope"), ("rhs", "up_proj"), ("value_states", "v_proj")],
        ),
        (
            "mistral",
            [("query_states.3", "q_rope"), ("key_states", "k_proj"), ("rhs", "up_proj"), ("value_states", "v_proj")],
        ),
        ("gemma", [("query_states", "q_proj"), ("key_states.3", "k_rope"), ("rhs", "up_proj"), ("lhs", "gate_act")]),
    ] {
        let text = |names: [String; 4]| -> String {
            names.iter().enumerate().map(|(at, name)| record(name, at, at) + "\n").collect()
        };
        let mine = text(variables.map(|(variable, _)| format!("t0/blk1/forward.let.{variable}")));
        let theirs = text(variables.map(|(_, stage)| format!("t0/blk1/{stage}")));
        // The others, and what the functions return, are no noise.
        let names =
            ["t0/forward.let.layer_in", "t0/blk1/forward.let.zzz", "t0/blk1/forward", "t0/forward", "t0/forward#1"];
        let more: String = names.iter().map(|name| record(name, 9, 9) + "\n").collect();
        let comparison = compared(&theirs, &(mine + &more), preset(&format!("candle-transformers/{model}")));
        let alone: Vec<_> =
            comparison.pairs.iter().filter(|pair| is_alone(pair)).map(|pair| &*pair.key.stage).collect();
        // Only in quantized_llama are these stages, and the logits are recorded twice.
        let expected: &[&str] = if model == "quantized_llama" { &["embeddings", "logits"] } else { &[] };
        assert_eq!((comparison.count(Verdict::Identical), &alone[..]), (4, expected), "{model}: {comparison}");
    }
}

#[test]
fn every_preset_is_a_map() {
    let presets: Vec<_> = NameMap::presets().collect();
    assert!(presets.len() >= 7 && presets.contains(&"hf"), "{presets:?}");
    assert!(presets.iter().all(|name| NameMap::preset(name).is_some()), "{presets:?}");
    assert!(NameMap::preset("candle-transformers").is_none());
}

/// Tensors of a tuple carry their number, whatever scope they were recorded in.
#[test]
fn layers_that_return_more_than_their_output_are_known() {
    for step in ["", "t0/"] {
        let names = ["model.layers.0.0", "model.layers.0.1", "model.layers.1.0", "lm_head"];
        let theirs: String =
            names.iter().enumerate().map(|(at, name)| record(&format!("{step}{name}"), at, at) + "\n").collect();
        let ours = [("blk0/block_out", 0), ("blk1/block_out", 2), ("logits", 3)];
        let ours: String = ours.iter().map(|(name, at)| record(&format!("{step}{name}"), *at, *at) + "\n").collect();
        let comparison = compared(&theirs, &ours, preset("hf"));
        assert!(comparison.matches() && comparison.ignored == [1, 0], "{comparison}");
    }
}

#[test]
fn a_name_of_another_program_is_its_own_stage() {
    let names = ["model.layers.0.q_proj", "model.layers.0.q_proj#1", "encoder/3"];
    let text: String = names.iter().enumerate().map(|(at, name)| record(name, at, at) + "\n").collect();
    let comparison = compared(&text, &text, NameMap::default());
    let keys: Vec<_> =
        comparison.pairs.iter().map(|pair| (&*pair.key.stage, pair.key.output.clone(), pair.key.call)).collect();
    let module = "model.layers.0.q_proj";
    assert_eq!(keys, [(module, None, 0), (module, None, 1), ("encoder/3", None, 0)]);
}

/// That the table of candle's models says what the presets do with these names.
fn assert_candle(table: &str) {
    let mut rows = table.lines().filter(|line| line.starts_with("| ")).map(|line| {
        let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`'));
        cells.collect::<Vec<_>>()
    });
    let models = rows.next().expect("a header");
    let rows: Vec<_> = rows.collect();
    for (column, model) in models.iter().enumerate().skip(1) {
        // One norm has no layer, and the names that rules ask for are beside.
        let names =
            || rows.iter().enumerate().map(|(at, row)| (at, row[0], row[column])).filter(|row| !row.2.is_empty());
        let place =
            |stage: &str| if ["embeddings", "final_norm", "logits"].contains(&stage) { "t0" } else { "t0/blk1" };
        let (mut theirs, mut ours) = (String::new(), String::new());
        for (at, stage, name) in names() {
            let scope = place(stage);
            // The second norm of a layer.
            let repeat = if (name, stage) == ("rms_norm", "ffn_norm") { "#1" } else { "" };
            ours += &(record(&format!("{scope}/{name}{repeat}"), at, at) + "\n");
            theirs += &(record(&format!("{scope}/{stage}"), at, at) + "\n");
        }
        let beside = record("t0/model.let.xs", 90, 90) + "\n";
        let ours = if *model == "gemma" { ours + &beside } else { ours };
        let comparison = compared(&theirs, &ours, preset(&format!("candle-transformers/{model}")));
        assert_partners(&comparison, model);
        assert_eq!(comparison.pairs.len(), names().count(), "{model}: {comparison}");
        assert!(names().count() >= 16, "{model}");
    }
}

/// The table of the documentation says what the lists say.
#[test]
fn the_table_of_names_is_right() {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/names.md");
    let table = fs::read_to_string(table).expect("the documentation");
    let known = |world: &str| -> BTreeSet<(String, String)> {
        let lines = families(world).into_iter().flat_map(|file| {
            let text = fs::read_to_string(file).expect("a list");
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        });
        let pairs = lines.filter_map(|line| {
            let (name, stage) = line.rsplit_once(" = ")?;
            let bases = ["model.language_model.", "language_model.model.", "model."];
            let name = bases.iter().find_map(|base| name.strip_prefix(base)).unwrap_or(name);
            Some((name.to_owned(), stage.trim_start_matches('~').to_owned()))
        });
        pairs.collect()
    };
    let (table, of_candle) = table.split_once("\n## candle-transformers\n").expect("two tables");
    assert_candle(of_candle);
    let worlds = [known("hf"), known("llama.cpp")];
    let mut stages = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let names = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
        let stage = names(cells[0]).remove(0);
        for (cell, world) in cells[1..].iter().zip(&worlds) {
            for name in names(cell) {
                assert!(world.contains(&(name.clone(), stage.clone())), "{name} is not {stage}");
            }
        }
        stages.insert(stage);
    }
    assert!(stages.len() > 30, "{stages:?}");
    for stage in ["q_proj", "ffn_act", "block_out", "attn_post_norm"] {
        assert!(stages.contains(stage), "{stage}");
    }
}
