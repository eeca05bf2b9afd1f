//! Grouped-query self-attention with a norm before the output projection.

use bitnet_trace::traced;
use candle_core::{D, Tensor};

use crate::checkpoint::Weights;
use crate::config::Config;
use crate::error::Result;
use crate::kv_cache::Layer;
use crate::linear::Linear;
use crate::rms_norm::RmsNorm;
use crate::rope::Rope;

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
    head_dim: usize,
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
            head_dim: config.head_dim,
        })
    }

    /// Takes `x` `[batch, tokens, hidden]`, normalised; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor, rope: &Rope, cache: &mut Layer) -> Result<Tensor> {
        let q = self.q_rope(&self.q_proj(x)?, rope)?;
        let k = self.k_rope(&self.k_proj(x)?, rope)?;
        let v = split_heads(&self.v_proj(x)?, self.kv_heads)?;
        let (k, v) = cache.append(&k, &v)?;
        let probabilities = self.attn_scores_softmax(&q, &k, rope.position)?;
        let context = self.attn_ctx(&probabilities, &v)?;
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

    /// `[batch, tokens, hidden]` to `[batch, heads, tokens, head_dim]`, rotated by position.
    #[traced(stage = "q_rope")]
    fn q_rope(&self, q: &Tensor, rope: &Rope) -> Result<Tensor> {
        rope.forward(&split_heads(q, self.heads)?)
    }

    /// `[batch, tokens, kv width]` to `[batch, key-value heads, tokens, head_dim]`, rotated by position.
    #[traced(stage = "k_rope")]
    fn k_rope(&self, k: &Tensor, rope: &Rope) -> Result<Tensor> {
        rope.forward(&split_heads(k, self.kv_heads)?)
    }

    /// `softmax(q k^T / sqrt(head_dim) + causal mask)`, `[batch, heads, tokens, positions]`.
    #[traced(stage = "attn_scores_softmax")]
    fn attn_scores_softmax(&self, q: &Tensor, k: &Tensor, position: usize) -> Result<Tensor> {
        #[allow(clippy::cast_precision_loss)]
        let scale = (self.head_dim as f64).powf(-0.5);
        let k = self.repeat_kv(k)?;
        let scores = (q.contiguous()?.matmul(&k.t()?)? * scale)?;
        softmax(&scores.broadcast_add(&causal_mask(q, position)?)?)
    }

    /// The values weighted by the probabilities, heads side by side: `[batch, tokens, hidden]`.
    #[traced(stage = "attn_ctx")]
    fn attn_ctx(&self, probabilities: &Tensor, v: &Tensor) -> Result<Tensor> {
        let context = probabilities.matmul(&self.repeat_kv(v)?)?;
        Ok(context.transpose(1, 2)?.flatten_from(2)?)
    }

    #[traced(stage = "attn_sub_norm")]
    fn attn_sub_norm(&self, context: &Tensor) -> Result<Tensor> {
        self.sub_norm.forward(context)
    }

    #[traced(stage = "o_proj")]
    fn o_proj(&self, context: &Tensor) -> Result<Tensor> {
        self.o_proj.forward(context)
    }

    /// Repeats every key-value head once for each query head that it serves: query head j uses
    /// head j / (heads / kv heads).
    fn repeat_kv(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, kv_heads, positions, head_dim) = x.dims4()?;
        let groups = self.heads / kv_heads;
        let repeated = x.unsqueeze(2)?.expand((batch, kv_heads, groups, positions, head_dim))?;
        Ok(repeated.reshape((batch, self.heads, positions, head_dim))?)
    }
}

/// `[batch, tokens, heads * head_dim]` to `[batch, heads, tokens, head_dim]`.
fn split_heads(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, tokens, _) = x.dims3()?;
    Ok(x.reshape((batch, tokens, heads, ()))?.transpose(1, 2)?)
}

/// `[tokens, positions]`: 0 where token i may attend, minus infinity at positions after its own.
fn causal_mask(q: &Tensor, position: usize) -> Result<Tensor> {
    let tokens = q.dim(2)?;
    let positions = position + tokens;
    let mask: Vec<f32> = (0..tokens)
        .flat_map(|i| (0..positions).map(move |j| if j <= position + i { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Ok(Tensor::from_vec(mask, (tokens, positions), q.device())?)
}

/// The softmax over the last dimension.
fn softmax(scores: &Tensor) -> Result<Tensor> {
    let max = scores.max_keepdim(D::Minus1)?;
    let exponentials = scores.broadcast_sub(&max)?.exp()?;
    Ok(exponentials.broadcast_div(&exponentials.sum_keepdim(D::Minus1)?)?)
}
