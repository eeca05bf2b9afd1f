//! Runs a model of candle-transformers, annotated by hand, on a checkpoint of Hugging Face transformers: a prefill, then
//! one decode step for each token that it is given. It prints the tokens that it would have chosen itself.
//!
//! ```sh
//! BITNET_TRACE_DIR=trace decode llama CHECKPOINT 1,17,33 42,7
//! ```

use std::error::Error;
use std::path::Path;

use bitnet_trace::annotate_run;
use bitnet_trace_candle_models::by_hand::{llama, qwen2};
use candle_core::{D, DType, Device, Tensor};
use candle_nn::VarBuilder;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The forward pass of a model: tokens, and the position of the first of them.
type Forward = Box<dyn FnMut(&Tensor, usize) -> candle_core::Result<Tensor>>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [family, checkpoint, prompt, tokens] = &arguments[..] else {
        return Err("usage: decode llama|qwen2 CHECKPOINT PROMPT TOKENS, as in decode llama dir 1,17,33 42,7".into());
    };
    let (prompt, tokens) = (ids(prompt)?, ids(tokens)?);
    let mut forward = load(family, Path::new(checkpoint))?;
    annotate_run("prompt_tokens", &prompt[..]);
    annotate_run("generated_tokens", &tokens[..]);
    let (mut position, mut chosen) = (0, Vec::new());
    for step in std::iter::once(&prompt[..]).chain(tokens.chunks(1)) {
        let input = Tensor::new(step, &Device::Cpu)?.unsqueeze(0)?;
        let logits = forward(&input, position)?.flatten_all()?;
        chosen.push(logits.argmax(D::Minus1)?.to_scalar::<u32>()?.to_string());
        position += step.len();
    }
    println!("{}", chosen.join(","));
    Ok(())
}

fn ids(list: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    let ids = list.split(',').map(|id| id.parse().map_err(|error| format!("{id:?} is not a token id: {error}").into()));
    ids.collect()
}

fn load(family: &str, checkpoint: &Path) -> Result<Forward, Box<dyn Error>> {
    let weights = candle_core::safetensors::load(checkpoint.join("model.safetensors"), &Device::Cpu)?;
    let weights = VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let config = checkpoint.join("config.json");
    Ok(match family {
        "llama" => {
            let config = read::<llama::LlamaConfig>(&config)?.into_config(false);
            let mut cache = llama::Cache::new(true, DType::F32, &config, &Device::Cpu)?;
            let model = llama::Llama::load(weights, &config)?;
            Box::new(move |tokens, at| model.forward(tokens, at, &mut cache))
        }
        "qwen2" => {
            let mut model = qwen2::ModelForCausalLM::new(&read(&config)?, weights)?;
            Box::new(move |tokens, at| model.forward(tokens, at))
        }
        other => return Err(format!("unknown model {other:?}, expected llama or qwen2").into()),
    })
}

/// Reads a `config.json` of transformers 5 for candle's structs, which know those of transformers 4.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut config: Value = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if let Some(theta) = config["rope_parameters"].get("rope_theta").cloned() {
        config["rope_theta"] = theta;
    }
    // Without a window, the whole context is one.
    if config["sliding_window"].is_null() {
        config["sliding_window"] = config["max_position_embeddings"].clone();
    }
    serde_json::from_value(config).map_err(|error| format!("{}: {error}", path.display()).into())
}
