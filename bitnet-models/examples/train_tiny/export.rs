//! The three files of a Hugging Face checkpoint: configuration, tokenizer, weights.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::vocabulary;

/// Writes `config.json`, `tokenizer.json` and `model.safetensors` into `directory`, and returns
/// their paths.
///
/// # Errors
///
/// If a file cannot be written.
pub(crate) fn write(directory: &Path, config: &Config, checkpoint: &[u8]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(directory).map_err(|source| failed(directory, source))?;
    let files = [
        ("config.json", pretty(&configuration(config))?),
        ("tokenizer.json", pretty(&tokenizer())?),
        ("model.safetensors", checkpoint.to_vec()),
    ];
    let mut written = Vec::new();
    for (name, content) in files {
        let path = directory.join(name);
        fs::write(&path, &content).map_err(|source| failed(&path, source))?;
        written.push(path);
    }
    Ok(written)
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Write { path: PathBuf::from(path), source }
}

fn pretty(value: &Value) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The model's shape and its quantisation, as `BitNetConfig` and `BitNetQuantConfig` read them.
///
/// `autobitlinear` says that `weight_scale` is a factor, not a divisor; `offline` that the weights
/// are stored ternary.
fn configuration(config: &Config) -> Value {
    json!({
        "architectures": ["BitNetForCausalLM"],
        "model_type": "bitnet",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "hidden_act": "relu2",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": decimal(config.rms_norm_eps),
        "rope_theta": decimal(config.rope_theta),
        "tie_word_embeddings": true,
        "attention_bias": false,
        "bos_token_id": null,
        "eos_token_id": vocabulary::END,
        "pad_token_id": vocabulary::PAD,
        "torch_dtype": "float32",
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": "offline",
            "modules_to_not_convert": null,
        },
    })
}

/// A JSON number with the digits an f32 is written with, `1e-5` and not `9.999999747378752e-6`.
fn decimal(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// A word-level tokenizer whose words are single characters.
///
/// The unknown token is deliberately not in the vocabulary: a character without a token is then an
/// error, where a vocabulary with one, or a BPE model without one, would lose it silently. The
/// `Fuse` decoder joins the tokens again without spaces.
fn tokenizer() -> Value {
    let mut vocab = serde_json::Map::new();
    for (id, character) in (0_u32..).zip(vocabulary::CHARACTERS) {
        vocab.insert(character.to_string(), Value::from(id));
    }
    let special = [(vocabulary::END, vocabulary::END_TEXT), (vocabulary::PAD, vocabulary::PAD_TEXT)];
    for (id, text) in special {
        vocab.insert(text.to_owned(), Value::from(id));
    }
    let added_tokens = special.map(|(id, content)| {
        json!({
            "id": id,
            "content": content,
            "single_word": false,
            "lstrip": false,
            "rstrip": false,
            "normalized": false,
            "special": true,
        })
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": { "Regex": "." },
            "behavior": "Isolated",
            "invert": false,
        },
        "post_processor": null,
        "decoder": { "type": "Fuse" },
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "<unknown>" },
    })
}
