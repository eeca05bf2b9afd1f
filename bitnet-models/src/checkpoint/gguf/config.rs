//! Makes the configuration of the metadata of a GGUF file.
//!
//! Source of the keys: `gguf-py/gguf/constants.py` of llama.cpp; of their use, `convert-hf-to-gguf-bitnet.py` and
//! `convert-ms-to-gguf-bitnet.py` in `utils/` of microsoft/BitNet, and `src/models/bitnet.cpp` of llama.cpp.

use std::fmt::Display;

use super::metadata::Metadata;
use crate::checkpoint::stored::StoredTensor;
use crate::config::{Activation, Config, Flavour, MOST_LAYERS};
use crate::error::{Result, Short};

/// The architectures and the activations of their feed-forward networks.
const ARCHITECTURES: [(&str, Activation); 3] =
    [("bitnet-b1.58", Activation::Relu2), ("bitnet-25", Activation::Relu2), ("bitnet", Activation::Silu)];

/// llama.cpp's base of the rotary embedding's frequencies where the file names none.
const ROPE_THETA: f64 = 10_000.0;

/// Reads the configuration; `tensors` are those of the file.
///
/// # Errors
///
/// If a size is missing, of another type or impossible, or the file is of another architecture.
pub(crate) fn config(metadata: &Metadata, tensors: &[StoredTensor]) -> Result<Config> {
    let keys = Keys::new(metadata)?;
    let hidden_size = keys.size("embedding_length")?;
    let heads = keys.size("attention.head_count")?;
    let kv_heads = keys.optional_size("attention.head_count_kv")?.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(keys.error("attention.head_count_kv", format!("a divisor of {heads}, the heads"), kv_heads));
    }
    let head_dim = hidden_size / heads;
    if !hidden_size.is_multiple_of(heads) || !head_dim.is_multiple_of(2) {
        let expected = format!("a divisor of {hidden_size}, the width, that leaves heads of an even width");
        return Err(keys.error("attention.head_count", expected, heads));
    }
    for key in ["rope.dimension_count", "attention.key_length", "attention.value_length"] {
        let width = keys.optional_size(key)?.unwrap_or(head_dim);
        if width != head_dim {
            return Err(keys.error(key, format!("{head_dim}, the width of a head"), width));
        }
    }
    let layers = keys.size("block_count")?;
    if layers > MOST_LAYERS {
        return Err(keys.error("block_count", format!("at most {MOST_LAYERS}"), layers));
    }
    keys.no_scaling()?;
    let rms_norm_eps = keys.number("attention.layer_norm_rms_epsilon")?;
    let Some(rms_norm_eps) = rms_norm_eps.filter(|eps| eps.is_finite() && *eps >= 0.0) else {
        let found = rms_norm_eps.map_or_else(|| "no such key".to_owned(), |eps| eps.to_string());
        return Err(keys.error("attention.layer_norm_rms_epsilon", "a finite number of at least 0", found));
    };
    let rope_theta = keys.number("rope.freq_base")?.unwrap_or(ROPE_THETA);
    if !(rope_theta.is_finite() && rope_theta > 0.0) {
        return Err(keys.error("rope.freq_base", "a finite number above 0", rope_theta));
    }
    Ok(Config {
        vocab_size: keys.vocab_size(tensors)?,
        hidden_size,
        intermediate_size: keys.size("feed_forward_length")?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim,
        max_position_embeddings: keys.size("context_length")?,
        rms_norm_eps,
        rope_theta,
        eos_token_ids: keys.end_tokens()?,
        flavour: Flavour::Gguf,
        hidden_act: keys.activation,
        tie_word_embeddings: !tensors.iter().any(|tensor| tensor.name == "output.weight"),
    })
}

/// The keys of an architecture, which begin with its name.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: &'a str,
    activation: Activation,
}

impl<'a> Keys<'a> {
    fn new(metadata: &'a Metadata) -> Result<Self> {
        const KEY: &str = "general.architecture";
        let found = metadata.string(KEY)?;
        let known = ARCHITECTURES.iter().find(|(name, _)| Some(*name) == found);
        let Some((architecture, activation)) = known else {
            let known = ARCHITECTURES.map(|(name, _)| format!("{name:?}")).join(" or ");
            let found = found.map_or_else(|| "no such key".to_owned(), |name| format!("{name:?}"));
            return Err(metadata.error(KEY, &known, found));
        };
        Ok(Self { metadata, architecture, activation: *activation })
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn error(&self, name: &str, expected: impl AsRef<str>, found: impl Display) -> crate::Error {
        self.metadata.error(&self.key(name), expected.as_ref(), found.to_string())
    }

    fn optional_size(&self, name: &str) -> Result<Option<usize>> {
        let Some(size) = self.metadata.unsigned(&self.key(name))? else { return Ok(None) };
        match usize::try_from(size) {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(self.error(name, "at least 1", size)),
        }
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.optional_size(name)?.ok_or_else(|| self.error(name, "an integer of at least 1", "no such key"))
    }

    /// A float as its shortest decimal: the file's 1e-5 is an f32, the configuration's an f64.
    fn number(&self, name: &str) -> Result<Option<f64>> {
        let key = self.key(name);
        match self.metadata.get(&key) {
            Some(super::Value::F32(number)) => Ok(Some(number.to_string().parse().unwrap_or(f64::from(*number)))),
            _ => self.metadata.float(&key),
        }
    }

    /// Refuses angles that are not those of the positions. As in `llama_model_base::load_hparams`: the scaling is linear if
    /// no type is given, `rope.scale_linear` is the factor's older name, a factor of 0 means 1, and the type `none` makes
    /// the factor void.
    fn no_scaling(&self) -> Result<()> {
        let kind = self.metadata.string(&self.key("rope.scaling.type"))?;
        if !matches!(kind, None | Some("none" | "linear")) {
            let found = format!("\"{}\"", Short(kind.unwrap_or_default()));
            return Err(self.error("rope.scaling.type", "\"none\", or \"linear\" by 1", found));
        }
        for key in ["rope.scaling.factor", "rope.scale_linear"] {
            let factor = self.number(key)?.unwrap_or(1.0);
            if kind != Some("none") && !matches!(factor, 0.0 | 1.0) {
                return Err(self.error(key, "1, which is no scaling of positions", factor));
            }
        }
        match self.number("rope.scaling.attn_factor")?.unwrap_or(1.0) {
            1.0 => Ok(()),
            factor => Err(self.error("rope.scaling.attn_factor", "1, which is no scaling of queries and keys", factor)),
        }
    }

    /// The rows of the embeddings; a key that says something else is an error.
    fn vocab_size(&self, tensors: &[StoredTensor]) -> Result<usize> {
        let embeddings = tensors.iter().find(|tensor| tensor.name == "token_embd.weight");
        let rows = embeddings.and_then(|tensor| tensor.shape.first().copied()).filter(|rows| *rows > 0);
        match (self.optional_size("vocab_size")?, rows) {
            (Some(stated), Some(rows)) if stated != rows => {
                Err(self.error("vocab_size", format!("{rows}, the rows of token_embd.weight"), stated))
            }
            (_, Some(rows)) | (Some(rows), None) => Ok(rows),
            (None, None) => {
                Err(self.error("vocab_size", "the number of tokens, or a tensor token_embd.weight", "neither"))
            }
        }
    }

    fn end_tokens(&self) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            let Some(id) = self.metadata.unsigned(key)? else { continue };
            let id = u32::try_from(id).map_err(|_| self.metadata.error(key, "a token id", id.to_string()))?;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}
