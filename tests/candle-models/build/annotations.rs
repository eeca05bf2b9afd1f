//! The lines that annotate the models, by the lines that they are added before.

/// A line to add to a file.
pub(crate) struct Added {
    /// It stands before this line, with the same indentation.
    pub(crate) before: &'static str,
    /// Before which of the lines that read so, counted from 1.
    pub(crate) nth: usize,
    pub(crate) line: &'static str,
}

/// A file of candle-transformers' `src/models/`, and what is added to it.
pub(crate) struct Annotated {
    pub(crate) file: &'static str,
    pub(crate) lines: &'static [Added],
}

const fn add(line: &'static str, nth: usize, before: &'static str) -> Added {
    Added { before, nth, line }
}

/// Files as a person annotates them.
///
/// In `quantized_llama` everything that a body binds is recorded. In `llama` and `qwen2` each value that is a stage gets
/// the stage's name (docs/names.md), and nothing else is recorded: such a trace compares with that of another program
/// without a map. What a file does not bind stays without a record: the norm before the feed-forward and the projections
/// inside it that are part of an expression. The attention of `qwen2` is bound before its heads are merged, which is
/// another order of elements.
pub(crate) const BY_HAND: [Annotated; 3] = [
    Annotated {
        file: "quantized_llama",
        lines: &[
            add("use bitnet_trace::traced;", 1, "use std::collections::HashMap;"),
            add(r#"#[traced(stage = "mlp", locals)]"#, 2, FORWARD_XS),
            add("#[traced(locals)]", 1, "fn forward_attn("),
            add(
                r#"#[traced(stage = "model_weights", seq = index_pos, layers(layer), locals)]"#,
                1,
                "pub fn forward(&mut self, x: &Tensor, index_pos: usize) -> Result<Tensor> {",
            ),
        ],
    },
    Annotated {
        file: "llama",
        lines: &[
            add("use bitnet_trace::traced;", 1, "use candle::{DType, Device, IndexOp, Result, Tensor, D};"),
            add(
                concat!(
                    r#"#[traced(stage = "o_proj", locals(q as "q_proj", q as _, q as "q_rope", k as "k_proj", k as _, "#,
                    r#"k as "k_rope", v as "v_proj", att as _, att as _, att as "attn_scores_softmax", y as _, "#,
                    r#"y as "attn_ctx"))]"#,
                ),
                1,
                "fn forward(",
            ),
            add(
                r#"#[traced(stage = "down_proj", locals(x as "ffn_act"))]"#,
                1,
                "fn forward(&self, x: &Tensor) -> Result<Tensor> {",
            ),
            add(r#"#[traced(stage = "block_out", locals(x as "attn_norm", x as "attn_residual"))]"#, 2, "fn forward("),
            add(
                concat!(
                    r#"#[traced(stage = "logits", seq = index_pos, layers(block), "#,
                    r#"locals(x as "embeddings", x as _, x as "final_norm"))]"#,
                ),
                1,
                "pub fn forward(&self, x: &Tensor, index_pos: usize, cache: &mut Cache) -> Result<Tensor> {",
            ),
        ],
    },
    Annotated {
        file: "qwen2",
        lines: &[
            add("use bitnet_trace::traced;", 1, "use candle::{DType, Device, IndexOp, Module, Result, Tensor, D};"),
            add(r#"#[traced(stage = "down_proj", locals(rhs as "up_proj"))]"#, 1, FORWARD_XS),
            add(
                concat!(
                    r#"#[traced(stage = "o_proj", locals(query_states as "q_proj", query_states as _, "#,
                    r#"query_states as "q_rope", key_states as "k_proj", key_states as _, key_states as "k_rope", "#,
                    r#"value_states as "v_proj", attn_weights as _, attn_weights as _, "#,
                    r#"attn_weights as "attn_scores_softmax"))]"#,
                ),
                1,
                "fn forward(",
            ),
            add(
                r#"#[traced(stage = "block_out", locals(xs as "attn_norm", xs as _, xs as "attn_residual"))]"#,
                2,
                "fn forward(",
            ),
            add(
                r#"#[traced(stage = "final_norm", seq = seqlen_offset, layers(layer), locals(xs as "embeddings"))]"#,
                1,
                "pub fn forward(",
            ),
            add(
                r#"#[traced(stage = "logits", seq = seqlen_offset)]"#,
                1,
                "pub fn forward(&mut self, input_ids: &Tensor, seqlen_offset: usize) -> Result<Tensor> {",
            ),
        ],
    },
];

/// What `bitnet-trace init` writes.
pub(crate) const INIT: [Annotated; 5] = [
    Annotated {
        file: "llama",
        lines: &[
            add("use bitnet_trace::traced;", 1, "use candle::{DType, Device, IndexOp, Result, Tensor, D};"),
            add("#[traced(locals)]", 1, "fn mask(&mut self, seq_len: usize, index_pos: usize) -> Result<Tensor> {"),
            add("#[traced(locals)]", 1, "fn flash_attn("),
            add("#[traced(locals)]", 1, FLASH_ATTN),
            add(
                "#[traced(locals)]",
                1,
                "fn apply_rotary_emb(&self, x: &Tensor, index_pos: usize, cache: &Cache) -> Result<Tensor> {",
            ),
            add(r#"#[traced(stage = "causal_self_attention", locals)]"#, 1, "fn forward("),
            add("#[traced(locals)]", 1, "fn repeat_kv(&self, x: Tensor) -> Result<Tensor> {"),
            add(
                "#[traced(locals)]",
                1,
                "fn masked_fill(on_false: &Tensor, mask: &Tensor, on_true: f32) -> Result<Tensor> {",
            ),
            add(r#"#[traced(stage = "mlp", locals)]"#, 1, "fn forward(&self, x: &Tensor) -> Result<Tensor> {"),
            add(r#"#[traced(stage = "block", locals)]"#, 2, "fn forward("),
            add("#[traced(locals)]", 1, "pub fn embed(&self, x: &Tensor) -> Result<Tensor> {"),
            add("#[traced(seq = index_pos, layers(block), locals)]", 1, "pub fn forward_input_embed("),
            add(
                r#"#[traced(stage = "llama", seq = index_pos, layers(block), locals)]"#,
                1,
                "pub fn forward(&self, x: &Tensor, index_pos: usize, cache: &mut Cache) -> Result<Tensor> {",
            ),
        ],
    },
    Annotated {
        file: "quantized_llama",
        lines: &[
            add("use bitnet_trace::traced;", 1, "use std::collections::HashMap;"),
            add(r#"#[traced(stage = "q_mat_mul", locals)]"#, 1, FORWARD_XS),
            add(r#"#[traced(stage = "mlp", locals)]"#, 2, FORWARD_XS),
            add(r#"#[traced(stage = "mlp_or_moe", locals)]"#, 3, FORWARD_XS),
            add(
                "#[traced(locals)]",
                1,
                "fn masked_fill(on_false: &Tensor, mask: &Tensor, on_true: &Tensor) -> Result<Tensor> {",
            ),
            add("#[traced(locals)]", 1, "fn apply_rotary_emb(&self, x: &Tensor, index_pos: usize) -> Result<Tensor> {"),
            add("#[traced(locals)]", 1, "fn forward_attn("),
            add("#[traced(locals)]", 1, "fn precomput_freqs_cis("),
            add(
                "#[traced(locals)]",
                1,
                "fn mask(&mut self, seq_len: usize, index_pos: usize, device: &Device) -> Result<Tensor> {",
            ),
            add(
                r#"#[traced(stage = "model_weights", seq = index_pos, layers(layer), locals)]"#,
                1,
                "pub fn forward(&mut self, x: &Tensor, index_pos: usize) -> Result<Tensor> {",
            ),
        ],
    },
    Annotated {
        file: "qwen2",
        lines: &[
            add("use bitnet_trace::traced;", 1, "use candle::{DType, Device, IndexOp, Module, Result, Tensor, D};"),
            add("#[traced(locals)]", 1, "fn apply_rotary_emb_qkv("),
            add(r#"#[traced(stage = "mlp", locals)]"#, 1, FORWARD_XS),
            add(r#"#[traced(stage = "attention", locals)]"#, 1, "fn forward("),
            add(r#"#[traced(stage = "decoder_layer", locals)]"#, 2, "fn forward("),
            add("#[traced(locals)]", 1, "fn prepare_causal_attention_mask("),
            add("#[traced(locals)]", 1, "fn prepare_attention_mask(&self, attn_mask: &Tensor) -> Result<Tensor> {"),
            add(r#"#[traced(stage = "model", seq = seqlen_offset, layers(layer), locals)]"#, 1, "pub fn forward("),
            add(
                r#"#[traced(stage = "model_for_causal_lm", locals)]"#,
                1,
                "pub fn forward(&mut self, input_ids: &Tensor, seqlen_offset: usize) -> Result<Tensor> {",
            ),
        ],
    },
    Annotated {
        file: "mistral",
        lines: &[
            add("use bitnet_trace::traced;", 1, "/// Mistral LLM, https://github.com/mistralai/mistral-src"),
            add("#[traced(locals)]", 1, "fn apply_rotary_emb_qkv("),
            add(r#"#[traced(stage = "mlp", locals)]"#, 1, FORWARD_XS),
            add("#[traced(locals)]", 1, "fn flash_attn("),
            add("#[traced(locals)]", 1, FLASH_ATTN),
            add(r#"#[traced(stage = "attention", locals)]"#, 1, "fn forward("),
            add(r#"#[traced(stage = "decoder_layer", locals)]"#, 2, "fn forward("),
            add("#[traced(locals)]", 1, "fn prepare_decoder_attention_mask("),
            add(
                r#"#[traced(stage = "model", seq = seqlen_offset, layers(layer), locals)]"#,
                1,
                "pub fn forward(&mut self, input_ids: &Tensor, seqlen_offset: usize) -> Result<Tensor> {",
            ),
            add("#[traced(seq = seqlen_offset, layers(layer), locals)]", 1, "pub fn forward_embeds("),
        ],
    },
    Annotated {
        file: "gemma",
        lines: &[
            add("use bitnet_trace::traced;", 1, "use std::sync::Arc;"),
            add(r#"#[traced(stage = "rms_norm", locals)]"#, 1, "fn forward(&self, x: &Tensor) -> Result<Tensor> {"),
            add("#[traced(locals)]", 1, "fn apply_rotary_emb_qkv("),
            add(r#"#[traced(stage = "mlp", locals)]"#, 1, FORWARD_XS),
            add(r#"#[traced(stage = "attention", locals)]"#, 1, "fn forward("),
            add("#[traced(locals)]", 1, "fn flash_attn("),
            add("#[traced(locals)]", 1, FLASH_ATTN),
            add(r#"#[traced(stage = "decoder_layer", locals)]"#, 2, "fn forward("),
            add("#[traced(locals)]", 1, "fn prepare_decoder_attention_mask("),
            add(
                r#"#[traced(stage = "model", seq = seqlen_offset, layers(layer), locals)]"#,
                1,
                "pub fn forward(&mut self, input_ids: &Tensor, seqlen_offset: usize) -> Result<Tensor> {",
            ),
            add("#[traced(seq = seqlen_offset, layers(layer), locals)]", 1, "pub fn forward_embeds("),
            add(
                "#[traced(seq = seqlen_offset, layers(layer), locals)]",
                1,
                "pub fn forward_embeds_without_projection(",
            ),
        ],
    },
];

const FORWARD_XS: &str = "fn forward(&self, xs: &Tensor) -> Result<Tensor> {";
const FLASH_ATTN: &str = "fn flash_attn(_: &Tensor, _: &Tensor, _: &Tensor, _: f32, _: bool) -> Result<Tensor> {";
