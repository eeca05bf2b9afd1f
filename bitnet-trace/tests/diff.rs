//! The comparer on traces that are awkward, damaged, foreign or hostile.

use std::fs;
use std::path::{Path, PathBuf};

use bitnet_trace::{
    Comparison, DiffOptions, Error, Evidence, NameMap, Origin, Tolerance, Trace, TraceContext, TraceRecord,
    TraceSession, Verdict, diff, diff_paths, tap,
};
use candle_core::{DType, Device, Tensor};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).expect("a tensor")
}

fn trace(capture: &str, f: impl FnOnce()) -> Trace {
    let session = TraceSession::builder().in_memory().capture(capture).start().expect("a session");
    session.in_scope(f);
    session.finish().expect("nothing lost")
}

fn of(capture: &str, stages: &[(&str, &Tensor)]) -> Trace {
    trace(capture, || stages.iter().for_each(|(stage, tensor)| tap(stage, tensor)))
}

fn compare(reference: &Trace, trace: &Trace) -> Comparison {
    diff(reference, trace, &Tolerance::default())
}

/// Numbers that look like activations.
fn noise(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f32::from(u16::try_from(state >> 16).expect("16 bits")) / 32768.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn record(name: &str, json: &str) -> String {
    format!(
        r#"{{"name":"{name}","shape":[2],"dtype":"F32","num_elements":2,"rms":1.0,"blake3":"{}"{json}}}"#,
        "ab".repeat(32)
    )
}

struct Directory(tempfile::TempDir);

impl Directory {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().expect("a temporary directory"));
        for (name, text) in files {
            let path = directory.path(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            fs::write(path, text).expect("written");
        }
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn paths(reference: &Path, trace: &Path) -> Result<Comparison, Error> {
    diff_paths(reference, trace, &DiffOptions::default(), &mut |_, _| ())
}

/// The earlier tracer's comparer, failure 2: other hashes and "all match", exit 0, as pretty JSON was
/// read line by line and both sides were empty.
#[test]
fn pretty_records_that_differ_do_not_match() {
    let pretty = |hash: &str, rms: f64| {
        format!(
            "{{\n  \"name\": \"t0/blk0/q_proj\",\n  \"shape\": [2],\n  \"dtype\": \"F32\",\n  \"blake3\": \"{}\",\n  \"rms\": {rms},\n  \
             \"num_elements\": 2,\n  \"seq\": 0,\n  \"layer\": 0,\n  \"stage\": \"q_proj\"\n}}",
            hash.repeat(32)
        )
    };
    let directory = Directory::new(&[("a/q.trace", &pretty("ab", 1.0)), ("b/q.trace", &pretty("cd", 1.5))]);
    let comparison = paths(&directory.path("a"), &directory.path("b")).expect("readable");
    assert_eq!((comparison.compared(), comparison.matches()), (1, false), "{comparison}");
}

/// Failure 3: sorted by layer and stage, the last stages came first. Here the order of execution
/// decides, also where layers are missing or negative.
#[test]
fn the_first_divergence_is_the_first_in_execution() {
    let stages = ["embeddings", "q_proj", "attn_scores_softmax", "all_layers_out", "logits"];
    let run = |faulty: usize| {
        trace("values", || {
            let _step = TraceContext::seq(0).enter();
            for (index, stage) in stages.iter().enumerate() {
                let _layer = (index == 1 || index == 2).then(|| TraceContext::layer(11).enter());
                let seed = if index >= faulty { 100 } else { 0 };
                tap(stage, &tensor(&noise(seed + u32::try_from(index).expect("few"), 32)));
            }
        })
    };
    let comparison = compare(&run(9), &run(1));
    assert_eq!(comparison.first_divergence().expect("one").key.to_string(), "t0/blk11/q_proj", "{comparison}");
}

/// Failure 4: traces missing on one side, or nothing in common, passed; names were not understood.
#[test]
fn what_is_missing_is_a_difference_and_nothing_in_common_is_no_match() {
    let x = tensor(&[1.0, 2.0]);
    let (both, one, other) =
        (of("sketch", &[("a", &x), ("b", &x)]), of("sketch", &[("a", &x)]), of("sketch", &[("z", &x)]));
    let missing = compare(&both, &one);
    assert_eq!((missing.matches(), missing.count(Verdict::OnlyReference)), (false, 1));
    let more = compare(&one, &both);
    assert_eq!((more.matches(), more.count(Verdict::OnlyTrace)), (false, 1));
    let nothing = compare(&both, &other);
    assert_eq!((nothing.matches(), nothing.compared()), (false, 0));
    assert!(!compare(&Trace::default(), &Trace::default()).matches());
    assert!(std::panic::catch_unwind(move || nothing.assert_match()).is_err());
    // Names alone align, blk11 with blk11.
    let lines = |seed: &str| [2, 11].map(|layer| record(&format!("t0/blk{layer}/q_proj"), seed)).join("\n");
    let directory = Directory::new(&[("a.jsonl", &lines("")), ("b.jsonl", &lines(r#","call":0"#))]);
    let named = paths(&directory.path("a.jsonl"), &directory.path("b.jsonl")).expect("readable");
    let keys: Vec<_> = named.pairs.iter().map(|pair| (pair.key.layer, pair.key.seq)).collect();
    assert_eq!((keys, named.matches()), (vec![(Some(2), Some(0)), (Some(11), Some(0))], true));
    let only_common = DiffOptions { only_common: true, ..DiffOptions::default() };
    let two = Directory::new(&[("a.jsonl", &lines("")), ("b.jsonl", &record("t0/blk2/q_proj", ""))]);
    let fewer =
        |options| diff_paths(two.path("a.jsonl"), two.path("b.jsonl"), options, &mut |_, _| ()).expect("readable");
    assert!(fewer(&only_common).matches() && !fewer(&DiffOptions::default()).matches());
}

/// Failure 5: every step overwrote the one before. Steps and repeats are pairs of their own.
#[test]
fn steps_and_repeats_are_told_apart() {
    let run = |fault: usize| {
        trace("sketch", || {
            for step in 0..4 {
                let _step = TraceContext::seq(step).enter();
                for repeat in 0..2 {
                    let seed = u32::try_from(step * 2 + repeat).expect("few");
                    tap("proj", &tensor(&noise(seed + if step * 2 + repeat == fault { 50 } else { 0 }, 64)));
                }
            }
        })
    };
    let comparison = compare(&run(99), &run(5));
    assert_eq!((comparison.pairs.len(), comparison.count(Verdict::Identical)), (8, 7));
    assert_eq!(comparison.first_divergence().expect("one").key.to_string(), "t2/proj#1");
}

/// Failure 6: names that sanitize alike were one file.
#[test]
fn names_that_look_alike_are_told_apart() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str, fault: f32| {
        let session = TraceSession::builder().dir(directory.path().join(name)).start().expect("a session");
        session.in_scope(|| {
            tap("a/b_c", &tensor(&[1.0, 2.0]));
            tap("a_b/c", &tensor(&[3.0, fault]));
        });
        session.finish().expect("nothing lost");
        directory.path().join(name)
    };
    let comparison = paths(&run("reference", 4.0), &run("trace", 5.0)).expect("readable");
    assert_eq!((comparison.pairs.len(), &*comparison.first_divergence().expect("one").key.stage), (2, "a_b/c"));
}

/// Failure 8: an equal rms was a match, whatever the hash said.
#[test]
fn equal_statistics_are_no_match() {
    let values = noise(3, 256);
    let flipped: Vec<f32> = values.iter().map(|value| -value).collect();
    let mut turned = values.clone();
    turned.rotate_left(1);
    for other in [flipped, turned] {
        for capture in ["none", "sketch", "values"] {
            let (a, b) = (of(capture, &[("x", &tensor(&values))]), of(capture, &[("x", &tensor(&other))]));
            let loose = diff(&a, &b, &Tolerance::rel_l2(0.0));
            assert_eq!(loose.first_divergence().expect("one").verdict, Verdict::Diverged, "{capture}: {loose}");
            let details = compare(&a, &b).pairs[0].details.clone().expect("details");
            let expected = match capture {
                "none" => Evidence::Statistics,
                "sketch" => Evidence::Sketch,
                _ => Evidence::Values,
            };
            assert_eq!(details.difference.expect("numbers").evidence, expected);
        }
    }
}

#[test]
fn verdicts() {
    let x = tensor(&noise(1, 64));
    let near = (&x * 1.000_001).expect("scaled");
    let nan = |at: usize| {
        let mut values = noise(1, 64);
        values[at] = f32::NAN;
        tensor(&values)
    };
    let integers = Tensor::new(&[1u32, 2], &Device::Cpu).expect("a tensor");
    let row = x.reshape((1, 64)).expect("a row");
    let square = x.reshape((8, 8)).expect("a square");
    let cases = [
        (&x, &x, Verdict::Identical),
        (&x, &row, Verdict::Identical),
        (&x, &near, Verdict::Within),
        (&x, &(&x * 2.0).expect("scaled"), Verdict::Diverged),
        (&x, &square, Verdict::Shape),
        (&integers, &tensor(&[1.0, 2.0]), Verdict::Dtype),
        (&x, &nan(3), Verdict::Nonfinite),
        (&nan(3), &x, Verdict::Nonfinite),
        (&nan(3), &nan(3), Verdict::Identical),
    ];
    for capture in ["sketch", "sketch,values"] {
        for (a, b, expected) in &cases {
            let comparison = compare(&of(capture, &[("x", a)]), &of(capture, &[("x", b)]));
            assert_eq!(comparison.pairs[0].verdict, *expected, "{capture}\n{comparison}");
        }
    }
    // With values the place counts too.
    let moved = compare(&of("values", &[("x", &nan(3))]), &of("values", &[("x", &nan(4))]));
    assert_eq!(moved.pairs[0].verdict, Verdict::Nonfinite, "{moved}");
    // f32 cannot tell these apart, their own bytes can.
    let wide = |value: i64| Tensor::new(&[value], &Device::Cpu).expect("a tensor");
    let raw = compare(&of("sketch", &[("x", &wide(1 << 24))]), &of("sketch", &[("x", &wide((1 << 24) + 1))]));
    assert_eq!(raw.pairs[0].verdict, Verdict::Diverged, "{raw}");
}

#[test]
fn numbers_and_the_tolerance_that_would_do() {
    let (a, b) = (tensor(&[3.0, 4.0, 0.0, 1.0]), tensor(&[3.0, 4.5, 0.0, 1.0]));
    let comparison = compare(&of("values", &[("x", &a)]), &of("values", &[("x", &b)]));
    let details = comparison.first_divergence().expect("one").details.clone().expect("details");
    let difference = details.difference.expect("numbers");
    let expected = 0.5 / 26f64.sqrt();
    assert!((difference.rel_l2.expect("known") - expected).abs() < 1e-12);
    let worst = difference.worst.expect("known");
    assert_eq!((worst.index, worst.reference, worst.trace), (vec![1], 4.0, 4.5));
    assert_eq!((difference.max_abs, difference.max_rel, difference.mean_abs), (Some(0.5), Some(0.125), Some(0.125)));
    assert_eq!((difference.max_ulp, difference.differing), (Some(1 << 20), Some(1)));
    let smallest = comparison.smallest_tolerance.expect("one would do");
    let again = diff(&of("values", &[("x", &a)]), &of("values", &[("x", &b)]), &Tolerance::rel_l2(smallest));
    assert!(again.matches());
    // bf16 against f32: held to the coarser type, and named what it is.
    let coarse = tensor(&noise(7, 64)).to_dtype(DType::BF16).expect("rounded");
    let rounding =
        diff(&of("values", &[("x", &tensor(&noise(7, 64)))]), &of("values", &[("x", &coarse)]), &Tolerance::default());
    assert_eq!(rounding.pairs[0].verdict, Verdict::Within, "{rounding}");
    let numbers = rounding.pairs[0].details.as_ref().and_then(|details| details.difference.clone()).expect("numbers");
    assert_eq!(numbers.rounding, Some("BF16"));
}

#[test]
fn recorded_inputs_tell_the_culprit() {
    let run = |input: f32, output: f32| {
        trace("values", || {
            #[bitnet_trace::traced(stage = "proj", inputs(x))]
            fn proj(x: &Tensor, output: f32) -> Tensor {
                let _ = x;
                tensor(&[output, 1.0])
            }
            proj(&tensor(&[input, 1.0]), output);
        })
    };
    let origin = |comparison: &Comparison| {
        let last = comparison.pairs.last().expect("a pair").details.clone().expect("details");
        last.origin
    };
    assert_eq!(origin(&compare(&run(1.0, 2.0), &run(1.0, 3.0))), Some(Origin::InputsMatch));
    assert_eq!(origin(&compare(&run(1.0, 2.0), &run(1.5, 3.0))), Some(Origin::InputsDiffer));
}

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
    let options = DiffOptions { map: map.parse::<NameMap>().expect("a map"), ..DiffOptions::default() };
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
    let options = DiffOptions { map: NameMap::preset("hf").expect("a preset"), ..DiffOptions::default() };
    let comparison = diff_paths(&theirs, &ours, &options, &mut |_, _| ()).expect("readable");
    assert_eq!((comparison.compared(), comparison.matches()), (6, true), "{comparison}");
}

#[test]
fn settings_that_are_wrong_are_named_by_line_and_column() {
    for (text, expected) in [
        ("[[rule]]\nrel_l3 = 1", "line 2, column 1"),
        ("[[rule]]\nrel_l2 = \"x\"", "line 2, column 10"),
        ("[[rule]", "line 1, column"),
        ("\n[[rule]]\nrel_l2 = -1.0", "line 2, column 1: `rel_l2` is -1"),
        ("[[rule]]\nstage = \"x\"", "allows nothing in particular"),
        ("[[rule]]\nlayer = \"3-1\"\nrel_l2 = 1.0", "ends before it begins"),
        ("[[rule]]\ncosine = 3.0", "from -1 to 1"),
    ] {
        let error = text.parse::<Tolerance>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    for (text, expected) in [
        ("[[map]]\nfrom = \"a\"", "line 1, column 1: expected either"),
        ("[[map]]\nfrom = \"a{x}\"\nto = \"b\"", "expected `{layer}`"),
        ("[[map]]\nfrom = \"\"\nto = \"b\"", "is empty"),
        ("[[map]]\nto = \"b\"", "missing field `from`"),
        ("[[map]]\nfrom = 3", "line 2, column 8"),
    ] {
        let error = text.parse::<NameMap>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    assert!(
        NameMap::preset("llama.cpp").is_some() && NameMap::preset("hf").is_some() && NameMap::preset("x").is_none()
    );
    let directory = Directory::new(&[("rules.toml", "rule = 3")]);
    let error = Tolerance::open(directory.path("rules.toml")).expect_err("no list").to_string();
    assert!(error.contains("rules.toml") && error.contains("line 1"), "{error}");
}

#[test]
fn rules_of_a_tolerance_hold_in_their_order() {
    let tolerance: Tolerance =
        "[[rule]]\nstage = \"attn_*\"\nlayer = \"1\"\nrel_l2 = 1.0\n[[rule]]\nstage = \"attn_*\"\nmax_abs = 0.25\n"
            .parse()
            .expect("rules");
    let run = |change: f32| {
        trace("values", || {
            for layer in [0, 1] {
                let _layer = TraceContext::layer(layer).enter();
                tap("attn_norm", &tensor(&[1.0, 1.0 + change]));
            }
            tap("logits", &tensor(&[1.0, 2.0]));
        })
    };
    let verdicts =
        |change| diff(&run(0.0), &run(change), &tolerance).pairs.iter().map(|pair| pair.verdict).collect::<Vec<_>>();
    assert_eq!(verdicts(0.2), [Verdict::Within, Verdict::Within, Verdict::Identical]);
    assert_eq!(verdicts(0.3), [Verdict::Diverged, Verdict::Within, Verdict::Identical]);
}

#[test]
fn input_that_is_bad_is_named_and_the_rest_is_read() {
    let deep = format!(r#"{{"name":{}"#, "[".repeat(1_000_000));
    let lines =
        [record("t0/a", ""), "not json".to_owned(), deep, record("t0/b", ""), "{\"name\":\"half".to_owned()].join("\n");
    let good = [record("t0/a", ""), record("t0/b", "")].join("\n");
    let directory = Directory::new(&[
        ("bad/trace.jsonl", &lines),
        ("bad/torn.trace", "{\"name\":"),
        ("good/trace.jsonl", &good),
        ("empty/readme.txt", "nothing"),
        ("later/run.json", r#"{"schema":"bitnet-trace/2"}"#),
        ("later/trace.jsonl", &good),
        ("garbage/trace.jsonl", "\0\0\0\n\u{1}\n"),
    ]);
    let comparison = paths(&directory.path("bad"), &directory.path("good")).expect("readable");
    assert_eq!((comparison.compared(), comparison.matches()), (2, true));
    let problems = comparison.problems.join("\n");
    for expected in ["trace.jsonl: not a record: line 2", "line 3", "line 5", "torn.trace"] {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
    let fails = |a: &str, b: &str| paths(&directory.path(a), &directory.path(b)).expect_err("refused").to_string();
    assert!(fails("good", "good").contains("on both sides"));
    assert!(fails("good", "empty").contains("holds no trace"));
    assert!(fails("good", "missing").contains("missing"));
    assert!(fails("later", "good").contains("bitnet-trace/2"));
    assert!(fails("garbage", "good").contains("line 1"));
    assert!(Trace::open(directory.path("later")).is_err());
}

/// Lines of any length take bounded memory, and take no other line with them.
#[test]
fn a_line_without_end_is_named() {
    use std::io::{Seek, SeekFrom, Write};
    let directory = Directory::new(&[("a.jsonl", &record("t0/a", ""))]);
    let mut file = fs::File::create(directory.path("b.jsonl")).expect("a file");
    writeln!(file, "{}", record("t0/a", "")).expect("written");
    // Zeros, of which no byte lies on the disk.
    file.seek(SeekFrom::Current(200 << 20)).expect("sought");
    writeln!(file, "\n{}", record("t0/b", "")).expect("written");
    let comparison = paths(&directory.path("a.jsonl"), &directory.path("b.jsonl")).expect("readable");
    assert_eq!((comparison.compared(), comparison.count(Verdict::OnlyTrace)), (1, 1), "{comparison}");
    assert!(comparison.problems[0].contains("line 2: longer than"), "{:?}", comparison.problems);
}

#[test]
fn values_that_are_missing_or_wrong_are_named_and_the_sketch_is_taken() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str, seed: u32| {
        let session = TraceSession::builder()
            .dir(directory.path().join(name))
            .capture("sketch,values")
            .start()
            .expect("a session");
        session.in_scope(|| tap("x", &tensor(&noise(seed, 64))));
        session.finish().expect("nothing lost");
        directory.path().join(name)
    };
    let (reference, other) = (run("reference", 1), run("other", 2));
    let record = |path: &Path| -> TraceRecord { Trace::open(path).expect("readable").records()[0].clone() };
    let file = other.join(record(&other).values.expect("captured"));
    let check = |expected: &str| {
        let comparison = paths(&reference, &other).expect("readable");
        let details = comparison.pairs[0].details.clone().expect("details");
        assert_eq!(details.difference.expect("numbers").evidence, Evidence::Sketch);
        assert!(comparison.problems.join("\n").contains(expected), "{expected}: {:?}", comparison.problems);
    };
    fs::copy(reference.join(record(&reference).values.expect("captured")), directory.path().join("whole"))
        .expect("copied");
    let shorter = tensor(&noise(2, 32));
    candle_core::safetensors::save(&std::collections::HashMap::from([("x", shorter)]), &file).expect("written");
    check("shape [32]");
    fs::write(&file, [0xff; 64]).expect("written");
    check("not a record");
    fs::remove_file(&file).expect("removed");
    check("cannot read");
    // A record that names a file outside the directory.
    let path = other.join("x.trace");
    let text = fs::read_to_string(&path).expect("readable");
    let outside = text.replace(&record(&other).values.expect("named"), "../whole");
    assert_ne!(text, outside);
    fs::write(&path, outside).expect("written");
    check("not a path inside");
}
