//! Grouped-query self-attention with a norm before the output projection.

use bitnet_trace::traced;
use candle_core::Tensor;
use rayon::prelude::*;

use crate::checkpoint::Weights;
use crate::config::Config;
use crate::error::Result;
use crate::kernels::Level;
use crate::kernels::float::sum;
use crate::kv_cache::Layer;
use crate::linear::Linear;
use crate::rms_norm::RmsNorm;
use crate::rope::Rope;
use crate::tensors::{tensor, with_values};

/// Attention of one block.
#[derive(Debug)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    sub_norm: RmsNorm,
    heads: usize,
    kv_heads: usize,
}

impl Attention {
    pub(crate) fn load(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let hidden = config.hidden_size;
        let kv_width = config.num_key_value_heads * config.head_dim;
        Ok(Self {
            q_proj: weights.linear("q_proj", hidden, hidden)?,
            k_proj: weights.linear("k_proj", kv_width, hidden)?,
            v_proj: weights.linear("v_proj", kv_width, hidden)?,
            o_proj: weights.linear("o_proj", hidden, hidden)?,
            sub_norm: weights.rms_norm("attn_sub_norm", hidden, config)?,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        [&self.q_proj, &self.k_proj, &self.v_proj, &self.o_proj].map(Linear::bytes).iter().sum()
    }

    /// Takes `x` `[1, tokens, hidden]`, normalised; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor, rope: &Rope, cache: &mut Layer) -> Result<Tensor> {
        let q = self.q_rope(&self.q_proj(x)?, rope)?;
        let k = self.k_rope(&self.k_proj(x)?, rope)?;
        cache.write(rope.position, &k, &self.v_proj(x)?)?;
        let probabilities = self.attn_scores_softmax(&q, cache, rope.position)?;
        let context = self.attn_ctx(&probabilities, cache)?;
        self.o_proj(&self.attn_sub_norm(&context)?)
    }

    #[traced(stage = "q_proj")]
    fn q_proj(&self, x: &Tensor) -> Result<Tensor> {
        self.q_proj.forward(x)
    }

    #[traced(stage = "k_proj")]
    fn k_proj(&self, x: &Tensor) -> Result<Tensor> {
        self.k_proj.forward(x)
    }

    #[traced(stage = "v_proj")]
    fn v_proj(&self, x: &Tensor) -> Result<Tensor> {
        self.v_proj.forward(x)
    }

    /// `[1, tokens, hidden]` to `[1, heads, tokens, head_dim]`, rotated by position.
    #[traced(stage = "q_rope")]
    fn q_rope(&self, q: &Tensor, rope: &Rope) -> Result<Tensor> {
        rope.forward(q, self.heads)
    }

    /// `[1, tokens, kv width]` to `[1, key-value heads, tokens, head_dim]`, rotated by position.
    #[traced(stage = "k_rope")]
    fn k_rope(&self, k: &Tensor, rope: &Rope) -> Result<Tensor> {
        rope.forward(k, self.kv_heads)
    }

    /// `softmax(q k^T / sqrt(head_dim))` over the positions up to the token's own, `[1, heads, tokens, positions]`. Query
    /// head j uses key-value head j / (heads / kv heads).
    #[traced(stage = "attn_scores_softmax")]
    fn attn_scores_softmax(&self, q: &Tensor, cache: &Layer, position: usize) -> Result<Tensor> {
        let (_, _, tokens, head_dim) = q.dims4()?;
        let positions = position + tokens;
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // as in the reference
        let scale = (head_dim as f64).powf(-0.5) as f32;
        let level = Level::current();
        let probabilities = with_values(q, |q| {
            let mut probabilities = vec![0.0; self.heads * tokens * positions];
            let rows = probabilities.par_chunks_exact_mut(positions).with_min_len(min_rows(positions * head_dim));
            rows.zip(q.par_chunks_exact(head_dim)).enumerate().for_each(|(row, (probabilities, q))| {
                let (kv_head, seen) = (row / tokens / self.groups(), position + row % tokens + 1);
                let probabilities = &mut probabilities[..seen];
                let mut rest = &mut probabilities[..];
                for (count, keys) in cache.keys(kv_head, seen) {
                    let (scores, others) = rest.split_at_mut(count);
                    level.dot_rows(keys, cache.stride(), q, scores);
                    rest = others;
                }
                for score in probabilities.iter_mut() {
                    *score *= scale;
                }
                softmax(probabilities);
            });
            probabilities
        })?;
        tensor(probabilities, (1, self.heads, tokens, positions))
    }

    /// The values weighted by the probabilities, heads side by side: `[1, tokens, hidden]`.
    #[traced(stage = "attn_ctx")]
    fn attn_ctx(&self, probabilities: &Tensor, cache: &Layer) -> Result<Tensor> {
        let (_, heads, tokens, positions) = probabilities.dims4()?;
        let head_dim = cache.head_dim();
        let level = Level::current();
        let context = with_values(probabilities, |probabilities| {
            let mut context = vec![0.0; tokens * heads * head_dim];
            let rows = context.par_chunks_exact_mut(head_dim).with_min_len(min_rows(positions * head_dim));
            rows.enumerate().for_each(|(row, context)| {
                let (token, head) = (row / heads, row % heads);
                let seen = positions - tokens + token + 1;
                let mut weights = &probabilities[(head * tokens + token) * positions..][..seen];
                for (count, values) in cache.values(head / self.groups(), seen) {
                    let (some, others) = weights.split_at(count);
                    level.weighted_sum(some, values, cache.stride(), context);
                    weights = others;
                }
            });
            context
        })?;
        tensor(context, (1, tokens, heads * head_dim))
    }

    #[traced(stage = "attn_sub_norm")]
    fn attn_sub_norm(&self, context: &Tensor) -> Result<Tensor> {
        self.sub_norm.forward(context)
    }

    #[traced(stage = "o_proj")]
    fn o_proj(&self, context: &Tensor) -> Result<Tensor> {
        self.o_proj.forward(context)
    }

    /// Query heads that share a key-value head.
    fn groups(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// The softmax of a row.
fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
    }
    let sum = sum(scores);
    for exponential in scores.iter_mut() {
        *exponential /= sum;
    }
}

/// Rows of this many multiplications that are worth handing to another thread.
fn min_rows(multiplications: usize) -> usize {
    /// About ten microseconds.
    const WORTH: usize = 1 << 16;
    WORTH.div_ceil(multiplications.max(1))
}
