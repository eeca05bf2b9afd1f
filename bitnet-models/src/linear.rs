//! A linear layer of a block, ternary or not.

use candle_core::{Device, Tensor};

use crate::bit_linear::BitLinear;
use crate::error::Result;
use crate::kernels::FloatMatrix;

/// A linear layer without bias.
#[derive(Debug, Clone)]
pub enum Linear {
    /// Ternary weights, int8 activations.
    Ternary(BitLinear),
    /// Float weights and activations, of an unquantised checkpoint.
    Dense(FloatMatrix),
}

impl Linear {
    /// Maps `x` `[.., columns]` to `[.., rows]`.
    ///
    /// # Errors
    ///
    /// If `x` is not F32 or its last dimension is not the number of columns.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Ternary(layer) => layer.forward(x),
            Self::Dense(matrix) => {
                let (rows, columns) = (matrix.rows(), matrix.columns());
                let mut values = vec![0.0; rows * columns];
                values.chunks_exact_mut(columns).enumerate().for_each(|(index, row)| matrix.row(index, row));
                Ok(x.broadcast_matmul(&Tensor::from_vec(values, (rows, columns), &Device::Cpu)?.t()?)?)
            }
        }
    }
}
