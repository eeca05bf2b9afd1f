//! The BitNet b1.58 transformer, differentiable, over float master weights.
//!
//! Layer order, norms and names follow Hugging Face transformers, `modeling_bitnet.py`.

use candle_core::{D, Device, Tensor};
use candle_nn::ops::{rms_norm_slow, softmax};
use candle_nn::rotary_emb::rope_slow;

use crate::config::Config;
use crate::error::Result;
use crate::parameters::Parameters;
use crate::quantize;

/// The float master weight `[out, in]` of a linear layer, quantised at every forward.
struct Projection(Tensor);

impl Projection {
    /// Maps `[rows, in]`, already rounded to int8 and back, to `[rows, out]`.
    fn forward(&self, rounded: &Tensor) -> Result<Tensor> {
        Ok(rounded.matmul(&quantize::fake_quantize_weight(&self.0)?.t()?)?)
    }
}

/// Root mean square normalisation with a gain `[hidden]`.
struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(rms_norm_slow(x, &self.weight, self.eps)?)
    }
}

/// What every layer needs to know about positions.
struct Positions {
    /// `[max_position_embeddings, head_dim / 2]`.
    cos: Tensor,
    /// `[max_position_embeddings, head_dim / 2]`.
    sin: Tensor,
    /// `[max_position_embeddings, max_position_embeddings]`: 0 where a row may attend, else -inf.
    mask: Tensor,
}

impl Positions {
    fn new(config: &Config) -> Result<Self> {
        let device = Device::Cpu;
        let half = u16::try_from(config.head_dim() / 2)?;
        let length = u16::try_from(config.max_position_embeddings)?;
        let frequencies: Vec<f32> =
            (0..half).map(|i| config.rope_theta.powf(-f32::from(i) / f32::from(half))).collect();
        let positions: Vec<f32> = (0..length).map(f32::from).collect();
        let angles = Tensor::new(positions, &device)?
            .unsqueeze(1)?
            .broadcast_mul(&Tensor::new(frequencies, &device)?.unsqueeze(0)?)?;
        let mask: Vec<f32> = (0..length)
            .flat_map(|row| (0..length).map(move |column| if column <= row { 0.0 } else { f32::NEG_INFINITY }))
            .collect();
        let side = usize::from(length);
        Ok(Self { cos: angles.cos()?, sin: angles.sin()?, mask: Tensor::from_vec(mask, (side, side), &device)? })
    }

    fn mask(&self, length: usize) -> Result<Tensor> {
        Ok(self.mask.narrow(0, 0, length)?.narrow(1, 0, length)?)
    }
}

/// Grouped-query attention with a norm before its output projection.
struct Attention {
    q_proj: Projection,
    k_proj: Projection,
    v_proj: Projection,
    o_proj: Projection,
    attn_sub_norm: RmsNorm,
    heads: usize,
    key_value_heads: usize,
    scale: f64,
}

impl Attention {
    /// `[batch * seq, hidden]` to the same.
    fn forward(&self, x: &Tensor, length: usize, positions: &Positions) -> Result<Tensor> {
        let (rows, hidden) = x.dims2()?;
        let batch = rows / length;
        let rounded = quantize::fake_quantize_activations(x)?;
        let q = split_heads(&self.q_proj.forward(&rounded)?, length, self.heads)?;
        let k = split_heads(&self.k_proj.forward(&rounded)?, length, self.key_value_heads)?;
        let v = split_heads(&self.v_proj.forward(&rounded)?, length, self.key_value_heads)?;
        let q = rope_slow(&q, &positions.cos, &positions.sin)?;
        let k = rope_slow(&k, &positions.cos, &positions.sin)?;

        // Query head j reads key-value head j / group: heads of a group are stacked as rows.
        let group = self.heads / self.key_value_heads;
        let head_dim = hidden / self.heads;
        let stacked = (batch, self.key_value_heads, group * length, head_dim);
        let scores = q.reshape(stacked)?.matmul(&k.t()?.contiguous()?)?;
        let scores = (scores.reshape((batch, self.heads, length, length))? * self.scale)?;
        let scores = scores.broadcast_add(&positions.mask(length)?)?;
        let probabilities = softmax(&scores, D::Minus1)?;
        let context = probabilities
            .reshape((batch, self.key_value_heads, group * length, length))?
            .matmul(&v)?
            .reshape((batch, self.heads, length, head_dim))?
            .transpose(1, 2)?
            .reshape((rows, hidden))?;

        let context = self.attn_sub_norm.forward(&context)?;
        self.o_proj.forward(&quantize::fake_quantize_activations(&context)?)
    }
}

/// `[batch * seq, heads * head_dim]` to `[batch, heads, seq, head_dim]`.
fn split_heads(x: &Tensor, length: usize, heads: usize) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    Ok(x.reshape((rows / length, length, heads, width / heads))?.transpose(1, 2)?.contiguous()?)
}

/// Squared-ReLU gated feed-forward with a norm before its output projection.
struct FeedForward {
    gate_proj: Projection,
    up_proj: Projection,
    down_proj: Projection,
    ffn_sub_norm: RmsNorm,
}

impl FeedForward {
    /// `[batch * seq, hidden]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let rounded = quantize::fake_quantize_activations(x)?;
        let gate = self.gate_proj.forward(&rounded)?.relu()?.sqr()?;
        let gated = (gate * self.up_proj.forward(&rounded)?)?;
        let gated = self.ffn_sub_norm.forward(&gated)?;
        self.down_proj.forward(&quantize::fake_quantize_activations(&gated)?)
    }
}

/// One layer: attention, then feed-forward, each with a norm before it and a residual connection around it.
struct Block {
    input_layernorm: RmsNorm,
    attention: Attention,
    post_attention_layernorm: RmsNorm,
    feed_forward: FeedForward,
}

impl Block {
    fn new(config: &Config, parameters: &Parameters, index: usize) -> Result<Self> {
        let norm = |part: &str| -> Result<RmsNorm> {
            Ok(RmsNorm {
                weight: parameters.get(&format!("model.layers.{index}.{part}.weight"))?,
                eps: config.rms_norm_eps,
            })
        };
        let projection =
            |part: &str| parameters.get(&format!("model.layers.{index}.{part}_proj.weight")).map(Projection);
        let head_dim = f64::from(u16::try_from(config.head_dim())?);
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            attention: Attention {
                q_proj: projection("self_attn.q")?,
                k_proj: projection("self_attn.k")?,
                v_proj: projection("self_attn.v")?,
                o_proj: projection("self_attn.o")?,
                attn_sub_norm: norm("self_attn.attn_sub_norm")?,
                heads: config.num_attention_heads,
                key_value_heads: config.num_key_value_heads,
                scale: head_dim.sqrt().recip(),
            },
            post_attention_layernorm: norm("post_attention_layernorm")?,
            feed_forward: FeedForward {
                gate_proj: projection("mlp.gate")?,
                up_proj: projection("mlp.up")?,
                down_proj: projection("mlp.down")?,
                ffn_sub_norm: norm("mlp.ffn_sub_norm")?,
            },
        })
    }

    /// `[batch * seq, hidden]` to the same.
    fn forward(&self, x: &Tensor, length: usize, positions: &Positions) -> Result<Tensor> {
        let normed = self.input_layernorm.forward(x)?;
        let attended = self.attention.forward(&normed, length, positions)?;
        let x = (x + attended)?;
        let fed = self.feed_forward.forward(&self.post_attention_layernorm.forward(&x)?)?;
        Ok((x + fed)?)
    }
}

/// The whole model. Its output layer is its embedding, which is not quantised.
pub(crate) struct Transformer {
    embed_tokens: Tensor,
    layers: Vec<Block>,
    norm: RmsNorm,
    positions: Positions,
}

impl Transformer {
    /// A model over the given weights.
    ///
    /// # Errors
    ///
    /// If a weight is missing.
    pub(crate) fn new(config: &Config, parameters: &Parameters) -> Result<Self> {
        Ok(Self {
            embed_tokens: parameters.get("model.embed_tokens.weight")?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Block::new(config, parameters, index))
                .collect::<Result<_>>()?,
            norm: RmsNorm { weight: parameters.get("model.norm.weight")?, eps: config.rms_norm_eps },
            positions: Positions::new(config)?,
        })
    }

    /// The logits `[chosen, vocab]` of some positions of `tokens` (`[batch, seq]`, u32).
    ///
    /// `chosen` (`[chosen]`, u32) counts through the `batch * seq` positions row by row.
    ///
    /// # Errors
    ///
    /// If the shapes do not fit the model.
    pub(crate) fn logits(&self, tokens: &Tensor, chosen: &Tensor) -> Result<Tensor> {
        let (_, length) = tokens.dims2()?;
        let mut x = self.embed_tokens.index_select(&tokens.flatten_all()?, 0)?;
        for layer in &self.layers {
            x = layer.forward(&x, length, &self.positions)?;
        }
        let x = x.index_select(chosen, 0)?;
        Ok(self.norm.forward(&x)?.matmul(&self.embed_tokens.t()?)?)
    }
}
