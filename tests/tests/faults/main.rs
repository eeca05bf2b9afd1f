//! Injects faults of every kind, one stage each, into a run of the embedded model. The first divergence is the
//! stage with the fault, and a cause that is named is the right one.
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

mod model;

use bitnet_models::bit_linear::{BitLinear, WeightScale};
use bitnet_models::kernels::TernaryMatrix;
use bitnet_models::{KvCache, Transformer, tiny};
use bitnet_trace::compare::{Cause, Comparison, Conclusion, Verdict, Where};
use bitnet_trace::{Tolerance, Trace, TraceSession, diff, tap};
use candle_core::{Device, Tensor};

use model::{DECODED, Fault, Model};

fn trace(capture: &str, fault: Option<Fault>) -> Trace {
    let session = TraceSession::builder().in_memory().capture(capture).start().expect("a session");
    session.in_scope(|| Model::new(fault).run().expect("it runs"));
    session.finish().expect("nothing lost")
}

/// A fault and the cause that the comparison names for it, from values and from sketches alone.
struct Case {
    fault: Fault,
    by_values: Option<Cause>,
    by_sketches: Option<Cause>,
}

/// No cause can be named for certain.
fn unnamed(fault: Fault) -> Case {
    Case { fault, by_values: None, by_sketches: None }
}

/// The values show the cause; a sketch, which mixes all elements, does not.
fn by_values(fault: Fault, cause: Cause) -> Case {
    Case { fault, by_values: Some(cause), by_sketches: None }
}

/// A sketch, the statistics or the hash show it too.
fn by_sketches(fault: Fault, cause: Cause) -> Case {
    Case { fault, by_values: Some(cause.clone()), by_sketches: Some(cause) }
}

/// Every fault, with the cause that is expected.
fn cases() -> Vec<Case> {
    let at = |what, stage, layer, step| Fault { what, stage, layer, step };
    let equals = |name: &str| Cause::Equals(name.to_owned());
    let (zero, one) = (Some(0), Some(1));
    vec![
        unnamed(at("wrong base", "q_rope", zero, 0)),
        unnamed(at("wrong base", "k_rope", one, 0)),
        unnamed(at("interleaved", "q_rope", one, 0)),
        unnamed(at("interleaved", "k_rope", zero, 2)),
        unnamed(at("turned backwards", "q_rope", zero, 0)),
        unnamed(at("position off by one", "q_rope", zero, 0)),
        unnamed(at("position off by one", "k_rope", zero, 3)),
        unnamed(at("missing", "k_rope", one, 0)),
        by_sketches(at("scale inverted", "q_proj", zero, 0), Cause::Ratio(0.125)),
        by_sketches(at("scale inverted", "o_proj", one, 1), Cause::Ratio(0.125)),
        by_sketches(at("scale missing", "v_proj", one, 0), Cause::Ratio(37.5)),
        by_sketches(at("scale missing", "down_proj", zero, 4), Cause::Ratio(37.5)),
        by_sketches(at("other sign", "up_proj", one, 0), Cause::SignFlipped),
        unnamed(at("transposed weight", "q_proj", one, 0)),
        by_values(at("halves of the heads exchanged", "k_proj", zero, 0), Cause::Permuted),
        unnamed(at("last channel lost", "o_proj", zero, 0)),
        by_sketches(at("all zero", "v_proj", zero, 2), Cause::AllZero),
        unnamed(at("one scale for all tokens", "gate_proj", zero, 0)),
        by_sketches(at("swapped", "gate_proj", zero, 0), equals("t0/blk0/up_proj")),
        by_sketches(at("not recorded", "v_proj", one, 2), Cause::MissingStage),
        by_values(at("other shape", "k_proj", one, 0), Cause::Transposed(1, 2)),
        unnamed(at("other type", "up_proj", zero, 0)),
        by_sketches(at("missing", "attn_sub_norm", zero, 0), equals("t0/blk0/attn_ctx")),
        by_sketches(at("missing", "ffn_sub_norm", one, 3), equals("t3/blk1/ffn_act")),
        by_sketches(at("missing", "final_norm", None, 0), equals("t0/blk1/block_out")),
        unnamed(at("large epsilon", "attn_norm", zero, 0)),
        unnamed(at("mean taken away", "ffn_norm", one, 0)),
        unnamed(at("over all tokens", "attn_norm", one, 0)),
        by_sketches(at("NaN", "attn_norm", one, 0), Cause::NonfiniteBorn),
        by_sketches(at("infinity", "ffn_norm", zero, 1), Cause::NonfiniteBorn),
        by_values(at("one sign", "ffn_sub_norm", zero, 0), Cause::SignsFlipped(1)),
        by_values(at("rounded to f16", "attn_norm", zero, 0), Cause::RoundedTo("F16")),
        by_values(at("rounded to bf16", "ffn_norm", one, 2), Cause::RoundedTo("BF16")),
        unnamed(at("stale key", "attn_scores_softmax", zero, 3)),
        unnamed(at("stale value", "attn_ctx", one, 3)),
        unnamed(at("scale missing", "attn_scores_softmax", one, 0)),
        unnamed(at("no mask", "attn_scores_softmax", zero, 0)),
        unnamed(at("mask off by one", "attn_scores_softmax", zero, 0)),
        unnamed(at("heads repeated in turn", "attn_scores_softmax", one, 1)),
        by_values(at("heads not put back", "attn_ctx", zero, 0), Cause::Permuted),
        by_sketches(at("missing", "attn_residual", zero, 0), equals("t0/blk0/o_proj")),
        by_sketches(at("missing", "block_out", one, 0), equals("t0/blk1/down_proj")),
        unnamed(at("residual of the input", "block_out", zero, 0)),
        unnamed(at("not squared", "ffn_act", zero, 0)),
        unnamed(at("silu", "ffn_act", one, 1)),
        by_sketches(at("all zero", "ffn_act", one, 0), Cause::AllZero),
        unnamed(at("gate alone", "ffn_act", zero, 2)),
        by_sketches(at("next token", "embeddings", None, 1), equals("t2/embeddings")),
        by_sketches(at("scaled by the root of the width", "embeddings", None, 0), Cause::Ratio(128f64.sqrt())),
        by_sketches(at("twice", "logits", None, 0), Cause::Ratio(2.0)),
        by_values(at("shifted by a token", "logits", None, 0), Cause::ShiftedByTokens(1)),
        by_values(at("permuted vocabulary", "logits", None, 1), Cause::Permuted),
        unnamed(at("one channel off", "logits", None, 0)),
    ]
}

fn same_cause(found: Option<&Cause>, expected: Option<&Cause>) -> bool {
    match (found, expected) {
        (Some(Cause::Ratio(found)), Some(Cause::Ratio(expected))) => (found / expected - 1.0).abs() < 1e-3,
        (found, expected) => found == expected,
    }
}

fn check(reference: &Trace, trace: &Trace, fault: Fault, expected: Option<&Cause>) {
    let Fault { what, stage, layer, step } = fault;
    let comparison = diff(reference, trace, &Tolerance::default());
    if expected == Some(&Cause::MissingStage) {
        return missing(&comparison, fault);
    }
    let first = comparison.first_divergence().unwrap_or_else(|| panic!("{what} in {stage} was not found"));
    let found = (&*first.key.stage, first.key.layer, first.key.seq);
    assert_eq!(found, (stage, layer, Some(step)), "{what}\n{comparison}");
    let details = first.details.as_deref().expect("details");
    let right = same_cause(details.cause.as_ref(), expected);
    assert!(right, "{what} in {stage}: expected {expected:?}, found {:?}\n{comparison}", details.cause);
    if let Some(origin) = details.origin {
        assert!(origin.is_here(), "{what} in {stage}: {origin:?}\n{comparison}");
    }
}

/// A record that is missing is not a divergence: it is listed among the records without a partner.
fn missing(comparison: &Comparison, fault: Fault) {
    let Fault { what, stage, layer, .. } = fault;
    assert_eq!(comparison.conclusion(), Conclusion::Missing, "{what} in {stage}\n{comparison}");
    let [group] = &comparison.coverage[..] else { panic!("{what} in {stage}\n{comparison}") };
    let found = (group.stage.as_str(), group.side, group.records, group.layers.first().copied());
    assert_eq!(found, (stage, Where::Reference, 1, layer), "{comparison}");
}

#[test]
fn the_first_divergence_is_the_fault_and_values_show_its_cause() {
    assert!(cases().len() >= 40);
    let reference = trace("sketch,values", None);
    for Case { fault, by_values, .. } in cases() {
        check(&reference, &trace("sketch,values", Some(fault)), fault, by_values.as_ref());
    }
}

/// Without values fewer causes can be named, exactly those in the table.
#[test]
fn sketches_alone_find_the_same_stages_and_show_some_causes() {
    let reference = trace("sketch", None);
    for Case { fault, by_sketches, .. } in cases() {
        check(&reference, &trace("sketch", Some(fault)), fault, by_sketches.as_ref());
    }
}

/// The harness computes what the model computes; otherwise the faults would be injected into something else.
#[test]
fn the_harness_is_the_model() {
    let model = Transformer::load(&tiny::checkpoint().expect("embedded")).expect("it loads");
    let session = TraceSession::builder().in_memory().capture("sketch,values").start().expect("a session");
    let harness = Model::new(None);
    session.in_scope(|| {
        let mut cache = KvCache::new(model.config());
        model.forward_full(&harness.prompt, &mut cache).expect("prefill");
        (1..=DECODED).for_each(|step| drop(model.forward_incremental(step + 3, &mut cache).expect("a step")));
    });
    let comparison =
        diff(&session.finish().expect("nothing lost"), &trace("sketch,values", None), &Tolerance::default());
    assert!(comparison.matches(), "{comparison}");
    assert_eq!(comparison.compared(), 5 * 39);
}

/// Rounding halves away from zero instead of to even, on an input that is full of exact halves.
#[test]
fn halves_rounded_away_from_zero() {
    // The largest magnitude is 127, so that the scale is 1 and every half stays a half.
    let x: Vec<f32> = (0..64).map(|i| if i == 0 { 127.0 } else { i as f32 - 31.5 }).collect();
    let values: Vec<i8> = (0..16 * 64).map(|i| (i * 7 % 3) as i8 - 1).collect();
    let matrix = TernaryMatrix::from_values(16, 64, &values);
    let linear = |x: &[f32]| {
        let x = Tensor::from_vec(x.to_vec(), (1, 1, 64), &Device::Cpu).expect("a tensor");
        let y = BitLinear::new(matrix.clone(), WeightScale::Multiply(0.5)).forward(&x).expect("it runs");
        tap("q_proj", &y);
    };
    let record = |x: Vec<f32>, input: &[f32]| {
        let session = TraceSession::builder().in_memory().capture("sketch,values").start().expect("a session");
        session.in_scope(|| {
            tap("attn_norm", &Tensor::new(input, &Device::Cpu).expect("a tensor"));
            linear(&x);
        });
        session.finish().expect("nothing lost")
    };
    let away: Vec<f32> = x.iter().map(|x| x.round()).collect();
    let comparison = diff(&record(x.clone(), &x), &record(away, &x), &Tolerance::default());
    let first = comparison.first_divergence().expect("a divergence");
    assert_eq!((&*first.key.stage, first.verdict), ("q_proj", Verdict::Diverged), "{comparison}");
    assert_eq!(first.details.as_ref().expect("details").cause, None, "{comparison}");
}
