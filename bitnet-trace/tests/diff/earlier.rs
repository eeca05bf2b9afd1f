//! What the earlier tracer's comparer got wrong.

use bitnet_trace::compare::{DiffOptions, Evidence, Verdict, diff_paths};
use bitnet_trace::{Tolerance, Trace, TraceContext, TraceSession, diff, tap};

use crate::{Directory, compare, noise, of, paths, record, tensor, trace};

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
    let only_common = DiffOptions::default().with_only_common(true);
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
