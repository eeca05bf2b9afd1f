//! A decoder of the Llama family on candle-nn that was not written for this library. It is annotated by adding
//! attributes alone.

#[path = "../fixtures/llama/plain.rs"]
#[allow(missing_docs, unreachable_pub, unused, clippy::pedantic)]
mod plain;
#[path = "../fixtures/llama/traced.rs"]
#[allow(missing_docs, unreachable_pub, unused, clippy::pedantic)]
mod traced;

use std::collections::BTreeMap;

use bitnet_trace::{ToTensor, Trace, TraceSession, record_weights};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

const PROMPT: [u32; 5] = [1, 17, 42, 3, 9];
const STEPS: usize = 3;
const LAYERS: usize = 2;

/// A tiny checkpoint of random numbers, made by the plain model's own loading.
fn checkpoint() -> BTreeMap<String, Tensor> {
    let weights = candle_nn::VarMap::new();
    let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    plain::Llama::load(&plain_config(), &vb).expect("it loads");
    let weights = weights.data().lock().expect("not poisoned");
    weights.iter().map(|(name, weight)| (name.clone(), weight.as_tensor().clone())).collect()
}

fn plain_config() -> plain::Config {
    plain::Config {
        vocab_size: 64,
        hidden_size: 32,
        intermediate_size: 48,
        num_layers: LAYERS,
        num_heads: 4,
        num_kv_heads: 2,
        rope_theta: 10_000.0,
        rms_norm_eps: 1e-5,
    }
}

fn traced_config() -> traced::Config {
    let plain::Config { vocab_size, hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, .. } =
        plain_config();
    let (rope_theta, rms_norm_eps) = (10_000.0, 1e-5);
    traced::Config {
        vocab_size,
        hidden_size,
        intermediate_size,
        num_layers,
        num_heads,
        num_kv_heads,
        rope_theta,
        rms_norm_eps,
    }
}

fn vb(checkpoint: &BTreeMap<String, Tensor>) -> VarBuilder<'static> {
    VarBuilder::from_tensors(checkpoint.clone().into_iter().collect(), DType::F32, &Device::Cpu)
}

#[test]
fn attributes_alone_are_added_and_few() {
    let plain: Vec<_> = include_str!("../fixtures/llama/plain.rs").lines().collect();
    let mut rest = plain.iter();
    let mut added = Vec::new();
    for line in include_str!("../fixtures/llama/traced.rs").lines() {
        if line.trim_start().starts_with("#[bitnet_trace::traced") {
            added.push(line);
        } else {
            assert_eq!(rest.next(), Some(&line), "a line is not the plain one's");
        }
    }
    assert_eq!(rest.next(), None);
    assert!((5..25).contains(&added.len()), "{added:#?}");
}

#[test]
fn prefill_and_decode_are_traced_end_to_end_and_nothing_else_changes() {
    let checkpoint = checkpoint();
    let plain = plain::Llama::load(&plain_config(), &vb(&checkpoint)).expect("it loads");
    let tokens = plain.generate(&PROMPT, STEPS, &plain_config()).expect("it runs");

    let model = traced::Llama::load(&traced_config(), &vb(&checkpoint)).expect("it loads");
    let session = TraceSession::builder().in_memory().capture("values").start().expect("a session");
    let found = session.in_scope(|| {
        record_weights(&checkpoint);
        model.generate(&PROMPT, STEPS, &traced_config())
    });
    assert_eq!(found.expect("it runs"), tokens);
    let trace = session.finish().expect("nothing lost");

    let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
    let mut expected: Vec<String> = checkpoint.keys().cloned().collect();
    for step in 0..STEPS {
        expected.push(format!("t{step}/embeddings"));
        for layer in 0..LAYERS {
            let stages = [
                "qkv.in.x",
                "qkv.q",
                "qkv.k",
                "qkv.v",
                "rope",
                "rope#1",
                "attn_ctx.in.k",
                "attn_ctx.in.v",
                "attn_ctx",
                "attn_out",
                "ffn_out.in.x",
                "ffn_act",
                "ffn_out",
                "block_out",
            ];
            expected.extend(stages.map(|stage| format!("t{step}/blk{layer}/{stage}")));
        }
        expected.extend(["final_norm", "logits"].map(|stage| format!("t{step}/{stage}")));
    }
    assert_eq!(names, expected);

    // The records hold what was computed: the last logits choose the last token.
    let logits = values(&trace, &format!("t{}/logits", STEPS - 1));
    assert_eq!(logits.dims(), [1, 64]);
    let chosen = logits.argmax(1).and_then(|chosen| chosen.squeeze(0)?.to_scalar::<u32>()).expect("a token");
    assert_eq!(Some(&chosen), tokens.last());
    // The cache grows: the keys of a decode step are all positions so far.
    assert_eq!(values(&trace, "t0/blk1/attn_ctx.in.k").dims(), [1, 4, PROMPT.len(), 8]);
    assert_eq!(values(&trace, "t2/blk1/attn_ctx.in.k").dims(), [1, 4, PROMPT.len() + 2, 8]);
}

fn values(trace: &Trace, name: &str) -> Tensor {
    let record = trace.records().iter().find(|record| record.name == name).expect("it was recorded");
    let values = trace.values(record).expect("readable").expect("captured");
    values.to_tensor(&Device::Cpu).expect("candle has the type")
}
