//! Matrices as checkpoints store them. (A plain implementation: every value is unpacked.)

mod unpack;

use bytes::Bytes;
use half::{bf16, f16};

/// The byte layouts of ternary matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Microsoft's I2_S, x86, without the tail that holds the scale.
    I2S,
    /// ggml's TQ2_0.
    Tq2_0,
    /// ggml's TQ1_0.
    Tq1_0,
    /// transformers' uint8 packing, `[rows / 4, columns]`.
    HuggingFace,
}

/// What is wrong with the bytes of a matrix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PackingError(pub(crate) String);

/// A matrix of -1, 0 and +1.
#[derive(Debug, Clone, PartialEq)]
pub struct TernaryMatrix {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) values: Vec<i8>,
    /// The scale of every block of 256 values, of TQ1_0 and TQ2_0.
    pub(crate) block_scales: Option<Vec<f32>>,
}

impl TernaryMatrix {
    /// Unpacks a matrix.
    ///
    /// # Errors
    ///
    /// If the length or the multiples are wrong, a code is 3, or the scale of a block is not finite.
    pub fn new(packing: Packing, rows: usize, columns: usize, data: Bytes) -> Result<Self, PackingError> {
        let (values, block_scales) = unpack::unpack(packing, rows, columns, &data)?;
        Ok(Self { rows, columns, values, block_scales })
    }

    /// A matrix of these values in row-major order.
    #[must_use]
    pub fn from_values(rows: usize, columns: usize, values: &[i8]) -> Self {
        Self { rows, columns, values: values.to_vec(), block_scales: None }
    }

    /// The values in row-major order.
    #[must_use]
    pub fn values(&self) -> Vec<i8> {
        self.values.clone()
    }

    /// The number of outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// The types of float matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names of the types
pub enum FloatType {
    F32,
    F16,
    Bf16,
    Q8_0,
}

/// A float matrix as it is stored.
#[derive(Debug, Clone)]
pub struct FloatMatrix {
    dtype: FloatType,
    rows: usize,
    columns: usize,
    data: Bytes,
}

impl FloatMatrix {
    /// Takes a matrix as it is.
    ///
    /// # Errors
    ///
    /// If the length is wrong.
    pub fn new(dtype: FloatType, rows: usize, columns: usize, data: Bytes) -> Result<Self, PackingError> {
        let row = match dtype {
            FloatType::F32 => columns * 4,
            FloatType::F16 | FloatType::Bf16 => columns * 2,
            FloatType::Q8_0 => columns / 32 * 34,
        };
        if data.len() != rows * row || (dtype == FloatType::Q8_0 && columns % 32 != 0) {
            return Err(PackingError(format!("{} bytes for {rows} rows of {columns}", data.len())));
        }
        Ok(Self { dtype, rows, columns, data })
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Writes a row, widened.
    pub fn row(&self, index: usize, to: &mut [f32]) {
        let size = self.data.len() / self.rows;
        let row = &self.data[index * size..(index + 1) * size];
        let each = |values: &mut dyn Iterator<Item = f32>| to.iter_mut().zip(values).for_each(|(to, from)| *to = from);
        match self.dtype {
            FloatType::F32 => each_of(row, f32::from_le_bytes, each),
            FloatType::F16 => each_of(row, |bytes| f16::from_le_bytes(bytes).to_f32(), each),
            FloatType::Bf16 => each_of(row, |bytes| bf16::from_le_bytes(bytes).to_f32(), each),
            FloatType::Q8_0 => {
                for (block, to) in row.chunks_exact(34).zip(to.chunks_exact_mut(32)) {
                    let scale = f16::from_le_bytes([block[0], block[1]]).to_f32();
                    block[2..].iter().zip(to).for_each(|(q, to)| *to = f32::from(q.cast_signed()) * scale);
                }
            }
        }
    }
}

fn each_of<const N: usize>(
    row: &[u8],
    number: impl Fn([u8; N]) -> f32,
    each: impl FnOnce(&mut dyn Iterator<Item = f32>),
) {
    each(&mut row.as_chunks().0.iter().map(|bytes| number(*bytes)));
}
