//! Maps for the record names of well-known programs.

/// The name of each preset, and its file.
pub(crate) const PRESETS: [(&str, &str); 7] = [
    ("hf", include_str!("hf.toml")),
    ("llama.cpp", include_str!("llama_cpp.toml")),
    ("candle-transformers/llama", include_str!("candle_transformers/llama.toml")),
    ("candle-transformers/quantized_llama", include_str!("candle_transformers/quantized_llama.toml")),
    ("candle-transformers/qwen2", include_str!("candle_transformers/qwen2.toml")),
    ("candle-transformers/mistral", include_str!("candle_transformers/mistral.toml")),
    ("candle-transformers/gemma", include_str!("candle_transformers/gemma.toml")),
];
