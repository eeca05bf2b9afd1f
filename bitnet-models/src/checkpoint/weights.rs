//! Makes layers from the tensors of a checkpoint, by the names that transformers gives them.

use ::safetensors::Dtype;
use candle_core::{Device, Tensor};

use super::safetensors::TensorFile;
use super::ternary::{PACKED, unpack};
use crate::bit_linear::{BitLinear, TernaryMatrix, WeightScale, quantize_weights};
use crate::config::{Config, Flavour};
use crate::error::Result;
use crate::rms_norm::RmsNorm;

/// The tensors whose names begin with a prefix.
#[derive(Debug, Clone)]
pub struct Weights<'a> {
    file: &'a TensorFile,
    flavour: Flavour,
    prefix: String,
}

impl<'a> Weights<'a> {
    pub(super) fn new(file: &'a TensorFile, flavour: Flavour) -> Self {
        Self { file, flavour, prefix: String::new() }
    }

    /// The tensors whose names begin with this prefix and `name`.
    #[must_use]
    pub fn at(&self, name: &str) -> Self {
        Self { prefix: self.name(name), ..self.clone() }
    }

    /// A float tensor of this shape.
    ///
    /// # Errors
    ///
    /// If it is missing or has another shape or type.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.floats(name, shape)?, shape, &Device::Cpu)?)
    }

    /// A linear layer from `columns` inputs to `rows` outputs, ternary in memory however it is stored.
    ///
    /// # Errors
    ///
    /// If the weight or its scale is missing or has another shape or type, or a packed code is not one of a value.
    pub fn bit_linear(&self, name: &str, rows: usize, columns: usize) -> Result<BitLinear> {
        let weight = format!("{name}.weight");
        if self.flavour == Flavour::Online {
            let weights = self.floats(&weight, &[rows, columns])?;
            if let Some(at) = weights.iter().position(|weight| !weight.is_finite()) {
                let found = format!("{} in row {} column {}", weights[at], at / columns, at % columns);
                return Err(self.file.error(&self.name(&weight), "finite numbers".to_owned(), found));
            }
            let (matrix, scale) = quantize_weights(&weights, rows, columns);
            return Ok(BitLinear::new(matrix, scale));
        }
        // With a number of rows that does not fill the bytes no shape can be right, and the message says so.
        let packed = self.file.tensor(&self.name(&weight), Dtype::U8, &[rows / PACKED, columns])?;
        let refuse = |expected: String, found: String| self.file.error(&self.name(&weight), expected, found);
        if !rows.is_multiple_of(PACKED) {
            return Err(refuse(format!("a number of outputs divisible by {PACKED}"), rows.to_string()));
        }
        let values = unpack(packed)
            .map_err(|at| refuse("codes 0, 1, 2 for -1, 0, +1".to_owned(), format!("code 3 in byte {at}")))?;
        let scale_name = format!("{name}.weight_scale");
        let scale = self.floats(&scale_name, &[1])?.first().copied().unwrap_or(f32::NAN);
        if !scale.is_finite() {
            let name = self.name(&scale_name);
            return Err(self.file.error(&name, "a finite number".to_owned(), scale.to_string()));
        }
        let scale = match self.flavour {
            Flavour::BitLinear => WeightScale::Divide(scale),
            Flavour::Offline | Flavour::Online => WeightScale::Multiply(scale),
        };
        Ok(BitLinear::new(TernaryMatrix { rows, columns, values }, scale))
    }

    pub(crate) fn rms_norm(&self, name: &str, width: usize, config: &Config) -> Result<RmsNorm> {
        let weight = self.f32(&format!("{name}.weight"), &[width])?;
        Ok(RmsNorm::new(weight, config.rms_norm_eps))
    }

    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let bytes = self.file.tensor(&self.name(name), Dtype::F32, shape)?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }

    fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }
}
