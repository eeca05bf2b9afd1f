//! Calls every reader of checkpoints and uses what it read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bitnet_models::chat::{ChatTemplate, Message};
use bitnet_models::checkpoint::inspect::Inspection;
use bitnet_models::{Checkpoint, KvCache, Tokenizer, Transformer};
use bytes::Bytes;

/// The configuration of the checkpoint whose tensors are the input: width 4, 2 heads, 8 tokens, 1 layer.
pub(crate) const CONFIG: &[u8] = br#"{"architectures": ["BitNetForCausalLM"], "model_type": "bitnet", "vocab_size": 8,
    "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
    "hidden_act": "relu2", "max_position_embeddings": 8, "tie_word_embeddings": true, "quantization_config":
    {"quant_method": "bitnet", "linear_class": "autobitlinear", "quantization_mode": "offline"}}"#;

/// The directory of files that are read by their name, in memory; it is removed at the end.
pub(crate) fn base() -> PathBuf {
    let base = if Path::new("/dev/shm").is_dir() { PathBuf::from("/dev/shm") } else { std::env::temp_dir() };
    base.join(format!("bitnet-models-fuzz-{}", std::process::id()))
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = base();
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join("config.json"), CONFIG).expect("written");
        folder
    })
}

/// The most values of a model that is run; those of larger ones take longer than all the rest.
const MOST_VALUES: usize = 1 << 16;

/// Loads a checkpoint, runs it if it is small, and reads its vocabulary.
fn use_all(checkpoint: bitnet_models::Result<Checkpoint>) {
    let Ok(checkpoint) = checkpoint else { return };
    if let Ok(tokenizer) = checkpoint.tokenizer() {
        encode(&tokenizer);
    }
    let Ok(model) = Transformer::load(&checkpoint) else { return };
    let config = model.config();
    let width = config.hidden_size.saturating_add(config.intermediate_size);
    let values = width.saturating_mul(config.vocab_size.saturating_add(width.saturating_mul(config.num_hidden_layers)));
    if values <= MOST_VALUES {
        let mut cache = KvCache::new(config);
        let _ = model.forward_full(&[0, 1], &mut cache);
        let _ = model.forward_incremental(2, &mut cache);
    }
}

fn encode(tokenizer: &Tokenizer) {
    if let Ok(ids) = tokenizer.encode("12+34= a\u{e4}\u{1f600}") {
        let _ = tokenizer.decode(&ids);
    }
    let _ = tokenizer.decode(&[0, 1, 2, u32::MAX]);
}

/// Reads a file with the reader that the first byte chooses.
pub(crate) fn read(data: &[u8]) {
    let Some((reader, data)) = data.split_first() else { return };
    let bytes = || Bytes::copy_from_slice(data);
    match reader % 7 {
        0 => use_all(Checkpoint::from_gguf("input.gguf", &bytes())),
        1 => use_all(Checkpoint::from_safetensors("input", CONFIG, &bytes())),
        // The configuration too: up to the first zero.
        2 => {
            let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
            let tensors = bytes().slice((end + 1).min(data.len())..);
            use_all(Checkpoint::from_safetensors("input", &data[..end], &tensors));
        }
        3 => {
            if let Ok(tokenizer) = Tokenizer::from_json(data, "tokenizer.json".to_owned()) {
                encode(&tokenizer);
            }
        }
        4 => {
            fs::write(folder().join("model.safetensors.index.json"), data).expect("written");
            use_all(Checkpoint::open(folder()));
        }
        6 => {
            let source = String::from_utf8_lossy(data);
            if let Ok(template) = ChatTemplate::new(source, "input.jinja") {
                let template = template.with_tokens(Some("<s>".to_owned()), None);
                let _ = template.render(&[Message::new("system", "Be terse."), Message::new("user", "12+34= \u{e4}")]);
            }
        }
        _ => {
            let file = folder().join("input.gguf");
            fs::write(&file, data).expect("written");
            let _ = Inspection::of(&file);
            fs::remove_file(file).expect("removed");
        }
    }
}
