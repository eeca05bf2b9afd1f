//! The names of tensors: transformers' and GGUF's.
//!
//! Source: `gguf-py/gguf/tensor_mapping.py` of llama.cpp, and of Microsoft's fork for the two norms inside a block.

/// Tensors outside the blocks.
const OUTSIDE: [(&str, &str); 3] =
    [("model.embed_tokens", "token_embd"), ("model.norm", "output_norm"), ("lm_head", "output")];

/// Tensors of a block.
const INSIDE: [(&str, &str); 11] = [
    ("input_layernorm", "attn_norm"),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.attn_sub_norm", "attn_sub_norm"),
    ("self_attn.o_proj", "attn_output"),
    ("post_attention_layernorm", "ffn_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.ffn_sub_norm", "ffn_sub_norm"),
    ("mlp.down_proj", "ffn_down"),
];

/// The name in a GGUF file of the tensor that transformers calls `name`; a name that is not in the tables stays.
pub(crate) fn in_gguf(name: &str) -> String {
    let translated = || {
        let (stem, kind) = name.rsplit_once('.')?;
        let kind = if kind == "weight_scale" { "scale" } else { kind };
        if let Some((_, stem)) = OUTSIDE.iter().find(|(theirs, _)| *theirs == stem) {
            return Some(format!("{stem}.{kind}"));
        }
        let (layer, stem) = stem.strip_prefix("model.layers.")?.split_once('.')?;
        let (_, stem) = INSIDE.iter().find(|(theirs, _)| *theirs == stem)?;
        Some(format!("blk.{layer}.{stem}.{kind}"))
    };
    translated().unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::in_gguf;

    #[test]
    fn names_are_translated() {
        for (transformers, gguf) in [
            ("model.embed_tokens.weight", "token_embd.weight"),
            ("lm_head.weight", "output.weight"),
            ("model.layers.12.self_attn.o_proj.weight", "blk.12.attn_output.weight"),
            ("model.layers.0.mlp.down_proj.weight_scale", "blk.0.ffn_down.scale"),
            ("model.layers.0.post_attention_layernorm.weight", "blk.0.ffn_norm.weight"),
            ("something.else", "something.else"),
        ] {
            assert_eq!(in_gguf(transformers), gguf);
        }
    }
}
