//! The shape of the model that is trained.

/// The shape of a model, in the terms of its `config.json`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Config {
    pub(crate) vocab_size: usize,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) rms_norm_eps: f32,
    pub(crate) rope_theta: f32,
}

impl Config {
    /// The width of a head.
    pub(crate) fn head_dim(&self) -> usize {
        self.hidden_size / self.num_attention_heads
    }

    /// The width of all keys, or of all values.
    pub(crate) fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim()
    }
}
