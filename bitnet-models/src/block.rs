//! One transformer block: attention and feed-forward network, each with a norm before and a residual sum after it.

use bitnet_trace::traced;
use candle_core::Tensor;

use crate::attention::Attention;
use crate::checkpoint::Weights;
use crate::config::Config;
use crate::error::Result;
use crate::feed_forward::FeedForward;
use crate::kv_cache::Layer;
use crate::rms_norm::RmsNorm;
use crate::rope::Rope;
use crate::tensors::zip;

/// One block.
#[derive(Debug)]
pub(crate) struct Block {
    attn_norm: RmsNorm,
    attention: Attention,
    ffn_norm: RmsNorm,
    feed_forward: FeedForward,
}

impl Block {
    pub(crate) fn load(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let hidden = config.hidden_size;
        Ok(Self {
            attn_norm: weights.rms_norm("input_layernorm", hidden, config)?,
            attention: Attention::load(&weights.at("self_attn"), config)?,
            ffn_norm: weights.rms_norm("post_attention_layernorm", hidden, config)?,
            feed_forward: FeedForward::load(&weights.at("mlp"), config)?,
        })
    }

    /// Makes every later call fail after attention has written to the cache.
    #[cfg(test)]
    pub(crate) fn of_another_width(&mut self) {
        self.ffn_norm = RmsNorm::new(vec![1.0], 0.0);
    }

    /// Bytes of weights that are read to compute one token.
    pub(crate) fn bytes(&self) -> usize {
        self.attention.bytes() + self.feed_forward.bytes()
    }

    /// Takes `x` `[1, tokens, hidden]`; returns the same shape.
    #[traced(stage = "block_out")]
    pub(crate) fn forward(&self, x: &Tensor, rope: &Rope, cache: &mut Layer) -> Result<Tensor> {
        let attended = self.attention.forward(&self.attn_norm(x)?, rope, cache)?;
        let x = attn_residual(x, &attended)?;
        let fed = self.feed_forward.forward(&self.ffn_norm(&x)?)?;
        zip(&x, &fed, |x, fed| x + fed)
    }

    #[traced(stage = "attn_norm")]
    fn attn_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.attn_norm.forward(x)
    }

    #[traced(stage = "ffn_norm")]
    fn ffn_norm(&self, x: &Tensor) -> Result<Tensor> {
        self.ffn_norm.forward(x)
    }
}

#[traced(stage = "attn_residual")]
fn attn_residual(x: &Tensor, attended: &Tensor) -> Result<Tensor> {
    zip(x, attended, |x, attended| x + attended)
}
