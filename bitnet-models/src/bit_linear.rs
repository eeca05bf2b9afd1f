//! The linear layer of BitNet b1.58: ternary weights, int8 activations, an exact integer product.
//!
//! "The Era of 1-bit LLMs" (arXiv 2402.17764), section 2; `BitLinear` and `AutoBitLinear` of
//! transformers' `integrations/bitnet.py`.

use candle_core::Tensor;

pub use crate::kernels::quantize_activations;

use crate::error::Result;
use crate::kernels::{Activations, TernaryMatrix};
use crate::tensors::{tensor, with_last, with_values};

/// The smallest mean magnitude by which weights are scaled: a matrix of zeros must not cause a division by zero.
const SMALLEST_MEAN: f32 = 1e-5;

/// The scale of the product. The flavours of checkpoints store either the mean magnitude or its inverse.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum WeightScale {
    /// The mean magnitude of the float weights.
    Multiply(f32),
    /// The inverse of the mean magnitude.
    Divide(f32),
}

/// A linear layer without bias.
#[derive(Debug, Clone)]
pub struct BitLinear {
    weight: TernaryMatrix,
    scale: WeightScale,
}

impl BitLinear {
    /// Makes a layer of ternary weights and their scale. Scales inside the matrix count beside it.
    #[must_use]
    pub fn new(weight: TernaryMatrix, scale: WeightScale) -> Self {
        let scale = match scale {
            WeightScale::Multiply(scale) => WeightScale::Multiply(scale * weight.scale()),
            WeightScale::Divide(scale) => WeightScale::Divide(scale / weight.scale()),
        };
        Self { weight, scale }
    }

    /// Maps `x` `[.., columns]` to `[.., rows]`: quantises every row of `x` to int8, multiplies in
    /// integers, and scales back.
    ///
    /// # Errors
    ///
    /// If `x` is not F32 or its last dimension is not the number of columns.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, columns) = (self.weight.rows(), self.weight.columns());
        let shape = with_last(x, columns, rows)?;
        let activations = with_values(x, |x| Activations::quantize(x, columns))?;
        let outputs = match self.scale {
            WeightScale::Multiply(scale) => {
                self.weight.product(&activations, |product, activation_scale| product / activation_scale * scale)
            }
            WeightScale::Divide(scale) => {
                self.weight.product(&activations, |product, activation_scale| product / (activation_scale * scale))
            }
        };
        tensor(outputs, shape)
    }

    /// Bytes of weights that are read for one product.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.weight.bytes()
    }
}

/// Quantises float master weights `[rows, columns]` to ternary: `clamp(round(w / s), -1, 1)`, halves to even,
/// with `s` the mean magnitude, which is also the layer's scale.
#[must_use]
pub fn quantize_weights(weights: &[f32], rows: usize, columns: usize) -> (TernaryMatrix, WeightScale) {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // a mean, rounded once
    let mean = (weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() / weights.len() as f64) as f32;
    let scale = 1.0 / mean.max(SMALLEST_MEAN);
    #[allow(clippy::cast_possible_truncation)] // clamped to -1, 0, 1
    let values: Vec<i8> = weights.iter().map(|w| (w * scale).round_ties_even().clamp(-1.0, 1.0) as i8).collect();
    (TernaryMatrix::from_values(rows, columns, &values), WeightScale::Multiply(1.0 / scale))
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::{BitLinear, TernaryMatrix, WeightScale, quantize_activations, quantize_weights};

    fn quantized(row: &[f32]) -> (Vec<i8>, f32) {
        let mut to = vec![0; row.len()];
        let scale = quantize_activations(row, &mut to);
        (to, scale)
    }

    /// With a maximum of 127 the scale is exactly 1, so every `n + 0.5` is an exact tie.
    #[test]
    fn activations_round_halves_to_even() {
        let (q, scale) = quantized(&[127.0, 0.5, 1.5, 2.5, 3.5, -0.5, -1.5, -2.5, 125.5, 126.5, -126.5]);
        assert_eq!(scale.to_bits(), 1.0f32.to_bits());
        assert_eq!(q, [127, 0, 2, 2, 4, 0, -2, -2, 126, 126, -126]);
    }

    /// With a mean magnitude of 1 the scale is exactly 1, and 0.5 is an exact tie.
    #[test]
    fn weights_round_halves_to_even() {
        let (matrix, scale) = quantize_weights(&[0.5, -0.5, 1.5, -1.5], 2, 2);
        assert_eq!(matrix.values(), [0, 0, 1, -1]);
        assert_eq!(scale, WeightScale::Multiply(1.0));
    }

    #[test]
    fn the_largest_magnitude_becomes_127_and_zeros_stay() {
        assert_eq!(quantized(&[-4.0, 2.0, 0.0]).0, [-127, 64, 0]);
        assert_eq!(quantized(&[0.0, 0.0]).0, [0, 0]);
    }

    #[test]
    fn the_two_scales_are_inverse() {
        let x = Tensor::new(&[[1f32, -0.5, 0.25], [0.0, 3.0, -3.0]], &Device::Cpu).expect("a matrix");
        let weight = TernaryMatrix::from_values(2, 3, &[1, 0, -1, -1, 1, 1]);
        let run = |scale| {
            let y = BitLinear::new(weight.clone(), scale).forward(&x).expect("a product");
            y.to_vec2::<f32>().expect("F32")
        };
        let multiplied = run(WeightScale::Multiply(0.25));
        assert_eq!(multiplied, run(WeightScale::Divide(4.0)));
        assert!((multiplied[0][0] - 0.25 * 0.75).abs() < 1e-2, "{multiplied:?}");
    }

    #[test]
    fn what_is_not_finite_shows_in_the_output() {
        let weight = TernaryMatrix::from_values(1, 2, &[1, 1]);
        let layer = BitLinear::new(weight, WeightScale::Multiply(1.0));
        for odd in [f32::NAN, f32::INFINITY] {
            let x = Tensor::new(&[[odd, 1.0], [1.0, 1.0]], &Device::Cpu).expect("a matrix");
            let y = layer.forward(&x).and_then(|y| Ok(y.to_vec2::<f32>()?)).expect("a product");
            assert!(y[0][0].is_nan() && (y[1][0] - 2.0).abs() < 1e-6, "{y:?}");
        }
    }
}
