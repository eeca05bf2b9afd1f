//! The feed-forward network: a gate of squared rectified linear units, and a norm before the down projection.

use bitnet_trace::traced;
use candle_core::Tensor;

use crate::checkpoint::Weights;
use crate::config::{Activation, Config};
use crate::error::Result;
use crate::linear::Linear;
use crate::rms_norm::RmsNorm;
use crate::tensors::zip;

/// Feed-forward network of one block.
#[derive(Debug)]
pub(crate) struct FeedForward {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
    sub_norm: RmsNorm,
    activation: Activation,
}

impl FeedForward {
    pub(crate) fn load(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        Ok(Self {
            gate_proj: weights.linear("gate_proj", inner, hidden)?,
            up_proj: weights.linear("up_proj", inner, hidden)?,
            down_proj: weights.linear("down_proj", hidden, inner)?,
            sub_norm: weights.rms_norm("ffn_sub_norm", inner, config)?,
            activation: config.hidden_act,
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        [&self.gate_proj, &self.up_proj, &self.down_proj].map(Linear::bytes).iter().sum()
    }

    /// Takes `x` `[1, tokens, hidden]`, normalised; returns the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let activation = ffn_act(&self.gate_proj(x)?, &self.up_proj(x)?, self.activation)?;
        self.down_proj(&self.ffn_sub_norm(&activation)?)
    }

    #[traced(stage = "gate_proj")]
    fn gate_proj(&self, x: &Tensor) -> Result<Tensor> {
        self.gate_proj.forward(x)
    }

    #[traced(stage = "up_proj")]
    fn up_proj(&self, x: &Tensor) -> Result<Tensor> {
        self.up_proj.forward(x)
    }

    #[traced(stage = "ffn_sub_norm")]
    fn ffn_sub_norm(&self, activation: &Tensor) -> Result<Tensor> {
        self.sub_norm.forward(activation)
    }

    #[traced(stage = "down_proj")]
    fn down_proj(&self, activation: &Tensor) -> Result<Tensor> {
        self.down_proj.forward(activation)
    }
}

/// `act(gate) * up`, `[1, tokens, intermediate]`, with the activation of the configuration.
#[traced(stage = "ffn_act")]
fn ffn_act(gate: &Tensor, up: &Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        // Not `gate.max(0.0)`: the maximum of NaN and 0 is 0.
        Activation::Relu2 => zip(gate, up, |gate, up| if gate < 0.0 { 0.0 } else { gate * gate * up }),
        Activation::Silu => zip(gate, up, |gate, up| gate / (1.0 + (-gate).exp()) * up),
    }
}
