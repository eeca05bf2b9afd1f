//! The runs that are compared: what transformers recorded, and candle's models with the same weights and tokens.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bitnet_trace::{TraceSession, dump_trace_with_context};
use bitnet_trace_candle_models::{by_hand, models};
use bitnet_trace_tests::golden::activations;
use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;

/// The tokens of each step, as in `golden/make.py`.
pub(crate) const STEPS: [&[u32]; 4] = [&[1, 17, 33, 3, 60], &[42], &[7], &[21]];
pub(crate) const LAYERS: usize = 2;

pub(crate) type Weights = HashMap<String, Tensor>;
/// The forward pass of a model: tokens, and the position of the first of them.
type Forward = Box<dyn FnMut(&Tensor, usize) -> Result<Tensor>>;

fn file(family: &str, name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(family).join(name)
}

pub(crate) fn weights(family: &str) -> Weights {
    activations(&file(family, "model.safetensors"))
}

fn config<T: DeserializeOwned>(family: &str) -> T {
    let text = std::fs::read_to_string(file(family, "config.json")).expect("a configuration");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{family}: {error}"))
}

/// Records `f` with values into a directory.
fn record(directory: &Path, f: impl FnOnce()) {
    let session = TraceSession::builder().dir(directory).format("jsonl").capture("values").start().expect("a session");
    session.in_scope(f);
    session.finish().expect("nothing lost");
}

/// What transformers computed: a record for each module, under the module's name, and the stages that are no module.
pub(crate) fn transformers(family: &str, directory: &Path) {
    let activations = activations(&file(family, "activations.safetensors"));
    let mut keys: Vec<&String> = activations.keys().collect();
    keys.sort();
    assert!(keys.len() > 100, "{family}: {} activations", keys.len());
    record(directory, || {
        for key in keys {
            let [step, _order, name] = key.splitn(3, '/').collect::<Vec<_>>()[..] else { panic!("{key}") };
            let step = step.parse().expect("a step");
            let stage = name.strip_prefix("blk").and_then(|rest| rest.split_once('/'));
            let (name, layer, stage) = match stage {
                Some((layer, stage)) => (format!("t{step}/{name}"), layer.parse().ok(), Some(stage)),
                None => (name.to_owned(), None, None),
            };
            dump_trace_with_context(&name, &activations[key], Some(step), layer, stage).expect("recorded");
        }
    });
}

/// What candle's model computes. `at` gives the position for each step; it is the first token's.
pub(crate) fn candle(model: &str, weights: Weights, directory: &Path, at: impl Fn(usize) -> usize) {
    let mut forward = load(model, weights).unwrap_or_else(|error| panic!("{model}: {error}"));
    record(directory, || {
        let mut position = 0;
        for tokens in STEPS {
            let input = Tensor::new(tokens, &Device::Cpu).and_then(|tokens| tokens.unsqueeze(0)).expect("tokens");
            forward(&input, at(position)).unwrap_or_else(|error| panic!("{model}: {error}"));
            position += tokens.len();
        }
    });
}

fn load(model: &str, weights: Weights) -> Result<Forward> {
    if let Some(variant) = model.strip_prefix("quantized_llama") {
        let file = gguf(&weights)?;
        let mut file = File::open(file.path())?;
        let content = Content::read(&mut file)?;
        return Ok(if variant.is_empty() {
            let mut model = models::quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
            Box::new(move |tokens, at| model.forward(tokens, at))
        } else {
            let mut model = by_hand::quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
            Box::new(move |tokens, at| model.forward(tokens, at))
        });
    }
    let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    Ok(match model {
        "llama" => {
            let config = config::<models::llama::LlamaConfig>(model).into_config(false);
            let mut cache = models::llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
            let model = models::llama::Llama::load(weights, &config)?;
            Box::new(move |tokens, at| model.forward(tokens, at, &mut cache))
        }
        "qwen2" => {
            let mut model = models::qwen2::ModelForCausalLM::new(&config(model), weights)?;
            Box::new(move |tokens, at| model.forward(tokens, at))
        }
        "mistral" => {
            let mut model = models::mistral::Model::new(&config(model), weights)?;
            Box::new(move |tokens, at| model.forward(tokens, at))
        }
        "gemma" => {
            let mut model = models::gemma::Model::new(false, &config(model), weights)?;
            Box::new(move |tokens, at| model.forward(tokens, at))
        }
        other => panic!("{other} is not a model"),
    })
}

/// The weights of `llama` as a GGUF file of f32.
///
/// llama.cpp's converter reorders the rows of query and key, because its Llama rotates neighbours. The order of
/// transformers is the one of `qwen2`, by which the file is read here: then every stage can be compared.
fn gguf(weights: &Weights) -> Result<tempfile::NamedTempFile> {
    let name = |theirs: &str| -> String {
        let layer = theirs.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
        let Some((layer, rest)) = layer else {
            return match theirs {
                "model.embed_tokens.weight" => "token_embd.weight",
                "model.norm.weight" => "output_norm.weight",
                _ => "output.weight",
            }
            .to_owned();
        };
        let ours = match rest.split('.').rev().nth(1) {
            Some("q_proj") => "attn_q",
            Some("k_proj") => "attn_k",
            Some("v_proj") => "attn_v",
            Some("o_proj") => "attn_output",
            Some("gate_proj") => "ffn_gate",
            Some("up_proj") => "ffn_up",
            Some("down_proj") => "ffn_down",
            Some("input_layernorm") => "attn_norm",
            _ => "ffn_norm",
        };
        format!("blk.{layer}.{ours}.weight")
    };
    let tensors = weights.iter().map(|(theirs, weight)| Ok((name(theirs), QTensor::quantize(weight, GgmlDType::F32)?)));
    let tensors = tensors.collect::<Result<Vec<_>>>()?;
    let metadata = [
        ("general.architecture", Value::String("qwen2".to_owned())),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.block_count", Value::U32(2)),
        ("llama.embedding_length", Value::U32(32)),
        ("llama.rope.dimension_count", Value::U32(8)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
    ];
    let file = tempfile::NamedTempFile::new()?;
    let metadata: Vec<_> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    gguf_file::write(&mut File::create(file.path())?, &metadata, &tensors)?;
    Ok(file)
}
