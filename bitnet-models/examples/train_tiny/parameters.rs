//! The master weights that training changes.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::config::Config;
use crate::error::{Error, Result};

/// Makes the weights' random numbers differ from those of the batches.
const INITIALISATION_STREAM: u64 = 0x494E_4954;

/// All master weights by the names they will have in the checkpoint.
pub(crate) struct Parameters {
    variables: BTreeMap<String, Var>,
}

impl Parameters {
    /// Random weights: uniform with standard deviation 1 / sqrt(inputs), the two projections that
    /// write into the residual stream smaller by sqrt(2 * layers); norms start at 1.
    ///
    /// # Errors
    ///
    /// If a tensor cannot be made.
    pub(crate) fn new(config: &Config, seed: u64) -> Result<Self> {
        let mut initialiser =
            Initialiser { random: StdRng::seed_from_u64(seed ^ INITIALISATION_STREAM), variables: BTreeMap::new() };
        let (hidden, feed_forward) = (config.hidden_size, config.intermediate_size);
        let key_value = config.key_value_size();
        let layers = f64::from(u16::try_from(config.num_hidden_layers)?);
        let residual = (2.0 * layers).sqrt().recip();
        initialiser.matrix("model.embed_tokens", config.vocab_size, hidden, 1.0)?;
        initialiser.gain("model.norm", hidden)?;
        for index in 0..config.num_hidden_layers {
            let layer = format!("model.layers.{index}");
            let attention = format!("{layer}.self_attn");
            let mlp = format!("{layer}.mlp");
            initialiser.gain(&format!("{layer}.input_layernorm"), hidden)?;
            initialiser.matrix(&format!("{attention}.q_proj"), hidden, hidden, 1.0)?;
            initialiser.matrix(&format!("{attention}.k_proj"), key_value, hidden, 1.0)?;
            initialiser.matrix(&format!("{attention}.v_proj"), key_value, hidden, 1.0)?;
            initialiser.gain(&format!("{attention}.attn_sub_norm"), hidden)?;
            initialiser.matrix(&format!("{attention}.o_proj"), hidden, hidden, residual)?;
            initialiser.gain(&format!("{layer}.post_attention_layernorm"), hidden)?;
            initialiser.matrix(&format!("{mlp}.gate_proj"), feed_forward, hidden, 1.0)?;
            initialiser.matrix(&format!("{mlp}.up_proj"), feed_forward, hidden, 1.0)?;
            initialiser.gain(&format!("{mlp}.ffn_sub_norm"), feed_forward)?;
            initialiser.matrix(&format!("{mlp}.down_proj"), hidden, feed_forward, residual)?;
        }
        Ok(Self { variables: initialiser.variables })
    }

    /// All variables with their names, in the names' order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// Whether the weight of this name belongs to a quantised projection.
    pub(crate) fn is_projection(name: &str) -> bool {
        name.ends_with("_proj.weight")
    }

    /// The master weight of this name.
    ///
    /// # Errors
    ///
    /// If there is none of this name.
    pub(crate) fn get(&self, name: &str) -> Result<Tensor> {
        self.variables
            .get(name)
            .map(|variable| variable.as_tensor().clone())
            .ok_or_else(|| Error::MissingWeight(name.to_owned()))
    }
}

/// Makes weights one after the other from one stream of random numbers.
struct Initialiser {
    random: StdRng,
    variables: BTreeMap<String, Var>,
}

impl Initialiser {
    fn matrix(&mut self, name: &str, rows: usize, columns: usize, gain: f64) -> Result<()> {
        let deviation = gain / f64::from(u16::try_from(columns)?).sqrt();
        // A uniform distribution on [-b, b] has standard deviation b / sqrt(3).
        let bound = deviation * 3.0_f64.sqrt();
        #[expect(clippy::cast_possible_truncation, reason = "a random number may have fewer digits")]
        let values: Vec<f32> =
            (0..rows * columns).map(|_| (bound * (2.0 * self.random.random::<f64>() - 1.0)) as f32).collect();
        self.insert(name, &Tensor::from_vec(values, (rows, columns), &Device::Cpu)?)
    }

    fn gain(&mut self, name: &str, width: usize) -> Result<()> {
        self.insert(name, &Tensor::ones(width, candle_core::DType::F32, &Device::Cpu)?)
    }

    fn insert(&mut self, name: &str, tensor: &Tensor) -> Result<()> {
        let variable = Var::from_tensor(tensor)?;
        self.variables.insert(format!("{name}.weight"), variable);
        Ok(())
    }
}
