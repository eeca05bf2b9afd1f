//! A linear layer of a block, ternary or not.

use candle_core::Tensor;

use crate::bit_linear::BitLinear;
use crate::error::Result;
use crate::kernels::FloatMatrix;
use crate::tensors::{tensor, with_last, with_values};

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
            Self::Dense(matrix) => dense(matrix, x),
        }
    }

    /// Bytes of weights that are read for one product.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Ternary(layer) => layer.bytes(),
            Self::Dense(matrix) => matrix.bytes(),
        }
    }
}

/// Maps `x` `[.., columns]` to `[.., rows]` by a float matrix.
///
/// # Errors
///
/// If `x` is not F32 or its last dimension is not the number of columns.
pub(crate) fn dense(matrix: &FloatMatrix, x: &Tensor) -> Result<Tensor> {
    let shape = with_last(x, matrix.columns(), matrix.rows())?;
    tensor(with_values(x, |x| matrix.product(x))?, shape)
}
