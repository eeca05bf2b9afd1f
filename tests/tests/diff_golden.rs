//! The comparer on activations of real reference implementations: Hugging Face transformers and
//! llama.cpp.

use std::path::Path;

use bitnet_models::{Activation, Checkpoint, KvCache, Transformer};
use bitnet_trace::compare::{DiffOptions, NameMap, Verdict, diff_paths};
use bitnet_trace::{Tolerance, TraceSession, dump_trace_with_context};
use bitnet_trace_tests::golden::{TOKENS, activations, fixture, stages};
use bitnet_trace_tests::repository;
use candle_core::npy::NpzTensors;

/// Records `f` with values into a directory.
fn record(directory: &Path, f: impl FnOnce()) {
    let session = TraceSession::builder().dir(directory).capture("sketch,values").start().expect("a session");
    session.in_scope(f);
    session.finish().expect("nothing lost");
}

fn ours(directory: &Path, checkpoint: &Path) {
    let mut checkpoint = Checkpoint::open(checkpoint).expect("a checkpoint");
    // The files of llama.cpp's architecture `bitnet`, which is SiLU, were run by a build with squared ReLU.
    checkpoint.config.hidden_act = Activation::Relu2;
    let model = Transformer::load(&checkpoint).expect("all tensors");
    record(directory, || {
        model.forward_full(&TOKENS, &mut KvCache::new(model.config())).expect("prefill");
    });
}

/// Hugging Face's activations under our names.
fn theirs(directory: &Path, flavour: &str) {
    let activations = activations(&fixture(&format!("act_{flavour}.safetensors")));
    record(directory, || {
        for (layer, stage, key) in stages() {
            let name = layer.map_or_else(|| format!("t0/{stage}"), |layer| format!("t0/blk{layer}/{stage}"));
            let tensor = &activations[&format!("prefill.{key}")];
            dump_trace_with_context(&name, tensor, Some(0), layer, Some(stage)).expect("recorded");
        }
    });
}

#[test]
fn hugging_face_matches_and_the_flavour_without_quantisation_parts_at_the_first_projection() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mine = dir.path().join("mine");
    ours(&mine, &fixture("offline_float32"));
    for (flavour, matches) in [("offline_float32", true), ("bitlinear_float32", true), ("noquant_float32", false)] {
        let reference = dir.path().join(flavour);
        theirs(&reference, flavour);
        let options = DiffOptions::default().with_tolerance(Tolerance::rel_l2(1e-5));
        let comparison = diff_paths(&reference, &mine, &options, &mut |_, _| ()).expect("readable");
        assert_eq!(comparison.pairs.len(), 39);
        assert_eq!(comparison.matches(), matches, "{comparison}");
        if !matches {
            let first = comparison.first_divergence().expect("one").clone();
            assert!(
                ["q_proj", "k_proj", "v_proj"].contains(&&*first.key.stage) && first.key.layer == Some(0),
                "{comparison}"
            );
            let details = first.details.expect("details");
            assert!(details.origin.expect("known").is_here(), "{comparison}");
            assert!(details.site.expect("annotated").contains("attention.rs"), "{comparison}");
        }
    }
}

#[test]
fn llama_cpp_aligns_through_its_preset() {
    against_llama_cpp("hf-relu2-offline");
}

#[test]
fn llama_cpp_matches_on_its_own_tq2_0_file() {
    against_llama_cpp("tiny-TQ2_0.gguf");
}

#[test]
fn llama_cpp_matches_on_its_own_tq1_0_file() {
    against_llama_cpp("tiny-TQ1_0.gguf");
}

/// Compares a checkpoint of the fixtures with llama.cpp's activations on the same weights: all stages.
fn against_llama_cpp(checkpoint: &str) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (reference, mine) = (dir.path().join("llama.cpp"), dir.path().join("mine"));
    let fixtures = repository().join("tests/fixtures/gguf-bitnet-tiny256");
    ours(&mine, &fixtures.join(checkpoint));
    // The nodes of llama.cpp in graph order, which the archive keeps; nodes of one name follow each other.
    let archive = NpzTensors::new(fixtures.join("relu2-TQ2_0-prefill.npz")).expect("the fixture");
    let mut names: Vec<&String> = archive.names();
    names.sort();
    record(&reference, || {
        for name in names.into_iter().filter(|name| *name != "tokens") {
            let tensor = archive.get(name).expect("readable").expect("there");
            let base = name.rsplit_once('.').map_or(name.as_str(), |(base, _)| base);
            dump_trace_with_context(base, &tensor, None, None, None).expect("recorded");
        }
    });
    let map = NameMap::preset("llama.cpp").expect("a preset");
    let options = DiffOptions::default().with_tolerance(Tolerance::rel_l2(1e-5)).with_map(map);
    let comparison = diff_paths(&reference, &mine, &options, &mut |_, _| ()).expect("readable");
    assert!(comparison.matches(), "{comparison}");
    assert_eq!((comparison.pairs.len(), comparison.compared()), (39, 39), "{comparison}");
    // The padding of attention rows was cut, because it is 0; and the comparison can fail.
    assert!(comparison.pairs.iter().any(|pair| &*pair.key.stage == "attn_scores_softmax"));
    let options = options.with_tolerance(Tolerance::rel_l2(1e-9));
    let comparison = diff_paths(&reference, &mine, &options, &mut |_, _| ()).expect("readable");
    assert!(comparison.count(Verdict::Diverged) > 10, "{comparison}");
}
