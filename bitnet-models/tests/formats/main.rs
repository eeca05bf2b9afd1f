//! The same weights in every format give the same logits, bit for bit, prefill and decode.

mod convert;

use std::path::{Path, PathBuf};

use bitnet_models::checkpoint::gguf::{Array, Value};
use bitnet_models::synth::{Format, Shape, Synth};
use bitnet_models::{Activation, Checkpoint, KvCache, Transformer};
use tempfile::TempDir;

use convert::{Stored, bf16_bytes, convert, f16_bytes, f32_bytes, q8_0_bytes};

/// The tokens of the fixtures; prefill is done with the first nine.
const TOKENS: [u32; 12] = [1, 17, 200, 3, 99, 255, 42, 7, 128, 64, 5, 5];

/// The bits of all logits: of a prefill, and of the decode steps after it.
fn logits(checkpoint: &Checkpoint) -> Vec<u32> {
    let model = Transformer::load(checkpoint).expect("all tensors");
    let mut cache = KvCache::new(model.config());
    let (prompt, rest) = TOKENS.split_at(9);
    let mut steps = vec![model.forward_full(prompt, &mut cache).expect("prefill")];
    steps.extend(rest.iter().map(|token| model.forward_incremental(*token, &mut cache).expect("a step")));
    let values = |step: &candle_core::Tensor| step.flatten_all().and_then(|step| step.to_vec1::<f32>()).expect("F32");
    steps.iter().flat_map(values).map(f32::to_bits).collect()
}

fn relative_l2(a: &[u32], b: &[u32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let (mut error, mut norm) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(f32::from_bits(*a)), f64::from(f32::from_bits(*b)));
        error += (a - b).powi(2);
        norm += b.powi(2);
    }
    (error / norm).sqrt()
}

/// Writes a tiny checkpoint; the path is `model` in the directory.
fn synthetic(format: Format, activation: Activation, seed: u64) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let synth = Synth { shape: Shape::Tiny, format, activation, seed };
    synth.write(&directory.path().join("model"), &mut |_, _| ()).expect("written");
    directory
}

fn logits_of(format: Format, activation: Activation, seed: u64) -> Vec<u32> {
    let directory = synthetic(format, activation, seed);
    logits(&Checkpoint::open(directory.path().join("model")).expect("a checkpoint"))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(name)
}

#[test]
fn synthetic_twins() {
    for activation in [Activation::Relu2, Activation::Silu] {
        let packed = logits_of(Format::HfOffline, activation, 11);
        assert!(packed.iter().all(|bits| f32::from_bits(*bits).is_finite()));
        for format in [Format::I2S, Format::Tq1_0, Format::Tq2_0] {
            assert!(logits_of(format, activation, 11) == packed, "{format:?}");
        }
        assert!(logits_of(Format::I2S, activation, 12) != packed);
        // The master weights' scale is a mean, within a percent of the other formats' scale.
        let error = relative_l2(&logits_of(Format::HfBf16, activation, 11), &packed);
        assert!(error > 0.0 && error < 0.02, "{error}");
    }
    assert!(logits_of(Format::I2S, Activation::Relu2, 11) != logits_of(Format::I2S, Activation::Silu, 11));
}

#[test]
fn version_2_is_version_3_of_this_byte_order() {
    let directory = synthetic(Format::Tq2_0, Activation::Relu2, 3);
    let mut file = std::fs::read(directory.path().join("model")).expect("written");
    let newer = logits(&Checkpoint::from_gguf("3", &file.clone().into()).expect("version 3"));
    file[4] = 2;
    assert!(logits(&Checkpoint::from_gguf("2", &file.into()).expect("version 2")) == newer);
}

/// The reference's packed checkpoint, whose scales need all bits of an f32, as I2_S.
#[test]
fn i2_s_of_the_reference() {
    let source = fixture("gguf-bitnet-tiny256/hf-relu2-offline");
    let twin = convert(&source, &[], |_, tensor| match tensor {
        Stored::Ternary { values, columns, scale } => convert::i2_s(values, *columns, *scale),
        Stored::Floats(values) => (0, f32_bytes(values)),
    });
    let twin = Checkpoint::from_gguf("twin.gguf", &twin).expect("a checkpoint");
    let mut original = Checkpoint::open(&source).expect("a checkpoint");
    assert!(logits(&twin) == logits(&original));
    // And this can fail.
    original.config.rope_theta *= 2.0;
    assert!(logits(&twin) != logits(&original));
}

/// llama.cpp's files of the same weights; their scale is that of the packed checkpoint rounded to f16.
#[test]
fn llama_cpp_wrote_the_weights_of_the_packed_checkpoint() {
    let opened = |name: &str| {
        let mut checkpoint = Checkpoint::open(fixture("gguf-bitnet-tiny256").join(name)).expect("a checkpoint");
        checkpoint.config.hidden_act = Activation::Relu2;
        logits(&checkpoint)
    };
    let (tq1, tq2) = (opened("tiny-TQ1_0.gguf"), opened("tiny-TQ2_0.gguf"));
    assert!(tq1 == tq2);
    assert!(relative_l2(&tq2, &opened("hf-relu2-offline")) < 1e-3);
}

/// Float linear layers in GGUF, with the optional scales of the older converter, against the unquantised flavour.
#[test]
fn float_weights_in_gguf() {
    let source = fixture("hf-bitnet-tiny/online_float32");
    let mut dense = Checkpoint::open(&source).expect("a checkpoint");
    dense.config.flavour = bitnet_models::Flavour::Unquantised;
    let dense = logits(&dense);
    let with = |scales: &[(&str, f32)], how: fn(&[f32]) -> (u32, Vec<u8>)| {
        let file = convert(&source, scales, |name, tensor| match tensor {
            Stored::Floats(values) if name.ends_with("norm.weight") => (0, f32_bytes(values)),
            Stored::Floats(values) => how(values),
            Stored::Ternary { .. } => unreachable!("the checkpoint has float weights"),
        });
        logits(&Checkpoint::from_gguf("dense.gguf", &file).expect("a checkpoint"))
    };
    assert!(with(&[], |values| (0, f32_bytes(values))) == dense);
    // Half of the queries is half of the attention's scores.
    assert!(with(&[("blk.0.attn_q.scale", 0.5)], |values| (0, f32_bytes(values))) != dense);
    assert!(with(&[("blk.0.attn_q.scale", 1.0)], |values| (0, f32_bytes(values))) == dense);
    // Of one value of float weights each type keeps so much: measured, and no more than twice as much is allowed.
    for (kind, how, bound) in [
        ("F16", (|values| (1, f16_bytes(values))) as fn(&[f32]) -> (u32, Vec<u8>), 2e-3),
        ("BF16", |values| (30, bf16_bytes(values)), 2e-2),
        ("Q8_0", |values| (8, q8_0_bytes(values)), 5e-2),
    ] {
        let error = relative_l2(&with(&[], how), &dense);
        assert!(error > 0.0 && error < bound, "{kind}: {error:e}");
    }
}

#[test]
fn a_head_of_its_own() {
    let source = fixture("hf-bitnet-tiny/online_float32");
    let original = std::fs::read(source.join("model.safetensors")).expect("the tensors");
    let tensors = safetensors::SafeTensors::deserialize(&original).expect("whole");
    let config = std::fs::read_to_string(source.join("config.json")).expect("the configuration");
    let untied = config.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    assert_ne!(untied, config);
    let embeddings = tensors.tensor("model.embed_tokens.weight").expect("there");
    let negated: Vec<u8> =
        embeddings.data().as_chunks::<4>().0.iter().flat_map(|[a, b, c, d]| [*a, *b, *c, d ^ 0x80]).collect();
    let with_head = |head: &[u8]| {
        let head =
            safetensors::tensor::TensorView::new(embeddings.dtype(), embeddings.shape().to_vec(), head).expect("whole");
        let all = tensors.tensors().into_iter().chain([("lm_head.weight".to_owned(), head)]);
        let file = safetensors::serialize(all, None).expect("written");
        logits(&Checkpoint::from_safetensors("untied", untied.as_bytes(), &file.into()).expect("a checkpoint"))
    };
    let tied = logits(&Checkpoint::open(&source).expect("a checkpoint"));
    assert!(with_head(embeddings.data()) == tied);
    let opposite: Vec<u32> = tied.iter().map(|bits| bits ^ 0x8000_0000).collect();
    assert!(with_head(&negated) == opposite);
}

#[test]
fn metadata_is_there_for_the_tokenizer() {
    let directory = synthetic(Format::I2S, Activation::Relu2, 1);
    let checkpoint = Checkpoint::open(directory.path().join("model")).expect("a checkpoint");
    let metadata = checkpoint.metadata().expect("a GGUF file");
    assert_eq!(metadata.string("tokenizer.ggml.model").expect("a string"), Some("none"));
    assert_eq!(metadata.unsigned("tokenizer.ggml.eos_token_id").expect("an id"), Some(2));
    assert_eq!(checkpoint.config.eos_token_ids, [2]);
    assert!(!checkpoint.has_tokenizer());
    assert_eq!(Value::Array(Array::String(vec![])).describe(), "array of 0 strings");
}
