//! Which record is compared with which.

use std::path::Path;

use bitnet_trace::compare::{Comparison, DiffOptions, NameMap, diff_paths};
use bitnet_trace::{Trace, TraceContext, TraceSession, tap};
use candle_core::{Device, Tensor};

use crate::{Directory, compare, noise, paths, record, tensor, trace};

#[test]
fn a_prefill_is_compared_with_its_decode_steps() {
    let (tokens, width) = (5, 16);
    let rows: Vec<Vec<f32>> = (0..tokens).map(|token| noise(token + 1, width)).collect();
    let prefill = trace("values", || {
        let _step = TraceContext::seq(0).with_tokens(0..tokens as usize).enter();
        let all = Tensor::new(rows.clone(), &Device::Cpu).and_then(|rows| rows.unsqueeze(0)).expect("a tensor");
        tap("proj", &all);
        // Rows of scores are filled with zeros up to the longest.
        let scores: Vec<Vec<f32>> =
            (0..5usize).map(|i| (0..5usize).map(|j| if j <= i { 0.5 } else { 0.0 }).collect()).collect();
        tap(
            "scores",
            &Tensor::new(scores, &Device::Cpu).and_then(|rows| rows.reshape((1, 1, 5, 5))).expect("a tensor"),
        );
    });
    let decode = |fault: usize| {
        trace("values", || {
            for (step, row) in rows.iter().enumerate() {
                let _step = TraceContext::seq(step).with_tokens(step..step + 1).enter();
                let row: Vec<f32> = row.iter().map(|value| if step == fault { value + 1.0 } else { *value }).collect();
                tap("proj", &tensor(&row).reshape((1, 1, width)).expect("a row"));
                tap("scores", &tensor(&vec![0.5; step + 1]).reshape((1, 1, 1, step + 1)).expect("a row"));
            }
        })
    };
    let comparison = compare(&prefill, &decode(99));
    assert!(comparison.by_token && comparison.matches(), "{comparison}");
    assert_eq!(comparison.compared(), 10);
    let comparison = compare(&prefill, &decode(3));
    assert_eq!(comparison.first_divergence().expect("one").key.to_string(), "token 3: proj", "{comparison}");
}

#[test]
fn processes_and_ranks_are_pairs_of_their_own() {
    let line = |name: &str| record(name, "");
    let directory = Directory::new(&[
        ("a/trace.jsonl", &line("x")),
        ("a/p12/trace.jsonl", &line("x")),
        ("b/trace.jsonl", &line("x")),
        ("b/p7/trace.jsonl", &line("x")),
        ("c/0/trace.jsonl", &line("x")),
        ("c/1/trace.jsonl", &line("y")),
        ("d/0/trace.jsonl", &line("x")),
        ("d/1/trace.jsonl", &line("z")),
    ]);
    let processes = paths(&directory.path("a"), &directory.path("b")).expect("readable");
    assert_eq!((processes.compared(), processes.matches()), (2, true), "{processes}");
    let ranks = paths(&directory.path("c"), &directory.path("d")).expect("readable");
    assert_eq!((ranks.compared(), ranks.matches()), (1, false), "{ranks}");
    // Read whole, they are told apart all the same.
    for (a, b, of_files) in [("a", "b", processes), ("c", "d", ranks)] {
        let open = |name| Trace::open(directory.path(name)).expect("readable");
        let of_records = compare(&open(a), &open(b));
        let keys = |comparison: &Comparison| -> Vec<_> {
            comparison.pairs.iter().map(|pair| (pair.key.clone(), pair.verdict)).collect()
        };
        assert_eq!(keys(&of_records), keys(&of_files));
    }
}

#[test]
fn a_map_takes_fused_tensors_apart() {
    let (q, k) = (tensor(&noise(1, 32)).reshape((4, 8)).expect("q"), tensor(&noise(2, 16)).reshape((4, 4)).expect("k"));
    let fused = Tensor::cat(&[&q, &k], 1).expect("fused");
    let map = r#"
        [[map]]
        from = "wqkv-{layer}"
        to = "q_proj"
        slice = { dim = -1, start = 0, end = 8 }
        [[map]]
        from = "wqkv-{layer}"
        to = "k_proj"
        slice = { dim = -1, start = 8, end = 12 }
        [[map]]
        from = "kt-{layer}"
        to = "k_rope"
        transpose = [0, 1]
        [[map]]
        from = "debug*"
        ignore = true
    "#;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (theirs, ours) = (directory.path().join("theirs"), directory.path().join("ours"));
    let run = |path: &Path, f: &dyn Fn()| {
        let session = TraceSession::builder().dir(path).capture("values").start().expect("a session");
        session.in_scope(f);
        session.finish().expect("nothing lost");
    };
    run(&theirs, &|| {
        tap("wqkv-3", &fused);
        tap("kt-3", &k.t().expect("transposed"));
        tap("debug-1", &q);
    });
    run(&ours, &|| {
        let _layer = TraceContext::layer(3).enter();
        tap("q_proj", &q);
        tap("k_proj", &k);
        tap("k_rope", &k);
    });
    let options = DiffOptions::default().with_map(map.parse::<NameMap>().expect("a map"));
    let comparison = diff_paths(&theirs, &ours, &options, &mut |_, _| ()).expect("readable");
    assert_eq!((comparison.compared(), comparison.matches(), comparison.ignored), (3, true, [1, 0]), "{comparison}");
}

#[test]
fn modules_of_hugging_face_have_a_preset() {
    let x = tensor(&noise(1, 8));
    let names = [
        ("model.embed_tokens", None, "embeddings"),
        ("model.layers.3.input_layernorm", Some(3), "attn_norm"),
        ("model.layers.3.self_attn.q_proj", Some(3), "q_proj"),
        ("model.layers.3.mlp.ffn_sub_norm", Some(3), "ffn_sub_norm"),
        ("model.layers.3", Some(3), "block_out"),
        ("lm_head", None, "logits"),
    ];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (theirs, ours) = (directory.path().join("theirs"), directory.path().join("ours"));
    let run = |path: &Path, f: &dyn Fn()| {
        let session = TraceSession::builder().dir(path).start().expect("a session");
        session.in_scope(f);
        session.finish().expect("nothing lost");
    };
    run(&theirs, &|| {
        for (name, ..) in names {
            tap(name, &x);
        }
        tap("model.layers.3.mlp", &x);
    });
    run(&ours, &|| {
        let _step = TraceContext::seq(0).enter();
        for (_, layer, stage) in names {
            let _layer = layer.map(|layer| TraceContext::layer(layer).enter());
            tap(stage, &x);
        }
    });
    let options = DiffOptions::default().with_map(NameMap::preset("hf").expect("a preset"));
    let comparison = diff_paths(&theirs, &ours, &options, &mut |_, _| ()).expect("readable");
    assert_eq!((comparison.compared(), comparison.matches()), (6, true), "{comparison}");
}
