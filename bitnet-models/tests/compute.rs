//! One result, bit for bit, whatever computes it: each kernel of the processor, one thread or several, a prompt at once or
//! token by token.

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(feature = "trace")]
use bitnet_models::generate::{Options, generate};
use bitnet_models::kernels::Kernel;
use bitnet_models::synth::{Format, Shape, Synth};
use bitnet_models::{Activation, Checkpoint, KvCache, Transformer, tiny};
use candle_core::Tensor;

/// The first of them are computed at once, the others one by one.
const TOKENS: [u32; 9] = [1, 3, 2, 7, 5, 4, 9, 11, 2];
const PROMPT: usize = 6;

/// The bits of the logits of each token.
type Logits = Vec<Vec<u32>>;

fn load(checkpoint: &Checkpoint) -> Transformer {
    Transformer::load(checkpoint).expect("all tensors")
}

/// The logits of all tokens, the prompt computed in calls of `at_once` tokens.
fn logits(model: &Transformer, at_once: usize) -> Logits {
    let mut cache = KvCache::new(model.config());
    let (prompt, rest) = TOKENS.split_at(PROMPT);
    let mut all = Vec::new();
    for tokens in prompt.chunks(at_once).chain(rest.chunks(1)) {
        all.extend(rows(&model.forward_full(tokens, &mut cache).expect("logits")));
    }
    all
}

/// The bits of logits, `[1, tokens, vocabulary]`.
fn rows(logits: &Tensor) -> Logits {
    let rows = logits.squeeze(0).and_then(|logits| logits.to_vec2::<f32>()).expect("F32");
    rows.into_iter().map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
}

/// Computes the logits in every way and requires that they are the same.
fn check(checkpoint: &Checkpoint, what: &str) -> Logits {
    let expected = logits(&load(checkpoint).with_threads(1).expect("a thread"), PROMPT);
    assert!(expected.iter().flatten().all(|bits| f32::from_bits(*bits).is_finite()), "{what}");
    assert!(expected.windows(2).all(|pair| pair[0] != pair[1]), "{what}: the logits depend on the tokens");
    for kernel in Kernel::supported() {
        for threads in [1, 2, 3] {
            let model = load(checkpoint).with_kernel(kernel).and_then(|model| model.with_threads(threads));
            let model = model.expect("a kernel of this processor");
            for at_once in [PROMPT, 4, 1] {
                let same = logits(&model, at_once) == expected;
                assert!(same, "{what}: {kernel}, {threads} threads, {at_once} tokens of the prompt at once");
            }
            let last = model.forward_last(&TOKENS[..PROMPT], &mut KvCache::new(model.config())).expect("logits");
            assert!(rows(&last) == expected[PROMPT - 1..PROMPT], "{what}: {kernel}, {threads} threads, the last token");
        }
    }
    assert!(logits(&load(checkpoint), PROMPT) == expected, "{what}: as it is without a choice");
    expected
}

#[test]
fn the_embedded_model() {
    check(&tiny::checkpoint().expect("embedded"), "embedded");
}

/// Writes a checkpoint into a directory and returns where it is.
fn write(directory: &Path, format: Format) -> PathBuf {
    let hugging_face = matches!(format, Format::HfOffline | Format::HfBf16);
    let path = directory.join(if hugging_face { "model" } else { "model.gguf" });
    let synth = Synth { shape: Shape::Tiny, format, activation: Activation::Relu2, seed: 7 };
    synth.write(&path, &mut |_, _| {}).expect("written");
    path
}

fn synthetic(directory: &Path, format: Format) -> Checkpoint {
    Checkpoint::open(write(directory, format)).expect("readable")
}

#[test]
fn a_synthetic_model_in_every_format() {
    for format in [Format::HfOffline, Format::HfBf16, Format::I2S, Format::Tq1_0, Format::Tq2_0] {
        let directory = tempfile::tempdir().expect("a directory");
        check(&synthetic(directory.path(), format), &format!("{format:?}"));
    }
}

#[test]
fn the_packed_formats_of_one_model_agree() {
    let of = |format| {
        let directory = tempfile::tempdir().expect("a directory");
        logits(&load(&synthetic(directory.path(), format)), PROMPT)
    };
    let reference = of(Format::I2S);
    for format in [Format::Tq1_0, Format::Tq2_0] {
        assert!(of(format) == reference, "{format:?}");
    }
}

/// More positions than the cache takes memory for at once, so that attention goes over pieces.
#[test]
fn a_long_sequence_is_the_same_at_once_and_in_parts() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = write(directory.path(), Format::HfOffline);
    let config = path.join("config.json");
    let mut json: serde_json::Value =
        serde_json::from_slice(&fs::read(&config).expect("the configuration")).expect("JSON");
    json["max_position_embeddings"] = 1000.into();
    fs::write(&config, json.to_string()).expect("written");
    let model = load(&Checkpoint::open(&path).expect("readable"));
    let tokens: Vec<u32> = (0..600u32).map(|i| i * 7 % 31 + 1).collect();
    let last = |at_once: usize| {
        let mut cache = KvCache::new(model.config());
        let mut last = None;
        for tokens in tokens.chunks(at_once) {
            last = Some(model.forward_full(tokens, &mut cache).expect("logits"));
        }
        rows(&last.expect("a call")).pop()
    };
    let reference = last(600);
    assert!(last(1) == reference && last(255) == reference && last(256) == reference);
}

#[test]
fn a_kernel_that_the_processor_lacks_is_refused() {
    for kernel in Kernel::ALL {
        let model = load(&tiny::checkpoint().expect("embedded")).with_kernel(kernel);
        match model {
            Ok(model) => assert!(kernel.is_supported() && model.kernel() == kernel),
            Err(error) => assert!(!kernel.is_supported() && error.to_string().contains(kernel.name()), "{error}"),
        }
    }
}

/// A prompt's other logits choose nothing.
#[cfg(feature = "trace")]
#[test]
fn without_all_logits_the_tokens_are_the_same() {
    let model = load(&tiny::checkpoint().expect("embedded"));
    let of = |all_logits| {
        let session = bitnet_trace::TraceSession::builder().in_memory().filter("stage=logits").start();
        let session = session.expect("a session");
        let options = Options { all_logits, ignore_eos: true, max_new_tokens: 3, ..Options::default() };
        let tokens = session.in_scope(|| generate(&model, &TOKENS, &options)).expect("tokens");
        let trace = session.finish().expect("nothing lost");
        (tokens, trace.records().iter().map(|record| record.shape.clone()).collect::<Vec<_>>())
    };
    let ((all, of_all), (last, of_last)) = (of(true), of(false));
    assert_eq!(all, last);
    let shapes = |tokens| [[1, tokens, 14], [1, 1, 14], [1, 1, 14]].map(Vec::from).to_vec();
    assert_eq!((of_all, of_last), (shapes(TOKENS.len()), shapes(1)));
}
