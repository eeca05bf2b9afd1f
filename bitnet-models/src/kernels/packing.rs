//! The byte layouts of ternary matrices.

/// Codes in a byte of the 2-bit layouts.
pub(super) const QUARTERS: usize = 4;

/// Values in a block of TQ2_0 and TQ1_0, and in a step of the kernels for 2-bit rows.
pub(super) const BLOCK: usize = 256;

/// Bytes that hold the 2-bit codes of [`BLOCK`] values.
pub(super) const BLOCK_BYTES: usize = BLOCK / QUARTERS;

/// Bytes of a block of TQ2_0: 256 codes, then the scale as f16.
pub(super) const TQ2_BYTES: usize = BLOCK_BYTES + 2;

/// Bytes of a block of TQ1_0: 48 bytes of five trits, 4 bytes of four, then the scale as f16.
pub(super) const TQ1_BYTES: usize = 54;

/// Bytes of five trits in a block of TQ1_0: the first 32 side by side, then 16.
pub(super) const FIVES: (usize, usize) = (32, 16);

/// Bytes of four trits in a block of TQ1_0.
pub(super) const FOURS: usize = 4;

/// Trits in each of [`FIVES`].
pub(super) const TRITS: usize = 5;

/// Values in a block of I2_S.
const I2S_BLOCK: usize = 128;

/// Values of one shift that lie side by side in I2_S and TQ2_0.
pub(super) const RUN: usize = 32;

/// The widest row: below it no sum of codes times activations leaves an i32, in any order of adding.
pub(super) const MOST_COLUMNS: usize = 1 << 20;

/// The byte layouts of ternary matrices that the kernels multiply in place. A 2-bit code 0, 1, 2 is the value -1, 0, +1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Packing {
    /// Microsoft's `I2_S`, x86 (`utils/convert-hf-to-gguf-bitnet.py`, `quantize_to_i2_s`): blocks of 128 values of a row in
    /// 32 bytes, value j in byte j % 32 at shift 6 - 2 * (j / 32). Columns: a multiple of 128. Without the tail that holds
    /// the scale.
    I2S,
    /// ggml's `TQ2_0` (`ggml-common.h`, `block_tq2_0`): blocks of 256 values in 66 bytes, with the block's f16 scale at the
    /// end. Value 128 h + 32 n + m in byte 32 h + m at shift 2 n. Columns: a multiple of 256.
    Tq2_0,
    /// ggml's `TQ1_0` (`ggml-common.h`, `block_tq1_0`): blocks of 256 values in 54 bytes, five trits in a byte, with the
    /// block's f16 scale at the end. Columns: a multiple of 256.
    Tq1_0,
    /// transformers' uint8 packing (`integrations/bitnet.py`, `pack_weights`): `[rows / 4, columns]`, bits 2i and 2i + 1 of a
    /// byte are the value of the row i quarters further down. Rows: a multiple of 4.
    HuggingFace,
}

/// Bytes that are not the matrix they should be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PackingError {
    /// The number of bytes is not that of the shape.
    #[error("expected {expected} bytes, found {found}")]
    Length {
        /// Bytes of a matrix of this shape and layout.
        expected: usize,
        /// Bytes that there are.
        found: usize,
    },
    /// The layout has no such shape.
    #[error("expected {what} divisible by {multiple}, found {found}")]
    Multiple {
        /// `a number of outputs` or `a number of inputs`.
        what: &'static str,
        /// What it must be a multiple of.
        multiple: usize,
        /// What it is.
        found: usize,
    },
    /// The shape is empty, or larger than any matrix.
    #[error("expected a matrix of at least 1 x 1 and at most {most} columns, found {rows} x {columns}", most = MOST_COLUMNS)]
    Shape {
        /// Outputs.
        rows: usize,
        /// Inputs.
        columns: usize,
    },
    /// A code that stands for no value.
    #[error("expected codes 0, 1, 2 for -1, 0, +1, found code 3 in byte {byte}")]
    Code {
        /// Index of the byte in the matrix.
        byte: usize,
    },
    /// The scale of a block is NaN or infinite.
    #[error("expected finite scales, found {value} in block {block}")]
    Scale {
        /// Index of the block in the matrix.
        block: usize,
        /// The scale.
        value: f32,
    },
}

impl Packing {
    /// Bytes of a matrix of this shape.
    ///
    /// # Errors
    ///
    /// If the layout has no matrix of this shape.
    pub fn bytes(self, rows: usize, columns: usize) -> Result<usize, PackingError> {
        let shape = PackingError::Shape { rows, columns };
        if rows == 0 || columns == 0 || columns > MOST_COLUMNS {
            return Err(shape);
        }
        let multiple = |what, found: usize, multiple| {
            if found.is_multiple_of(multiple) {
                Ok(found / multiple)
            } else {
                Err(PackingError::Multiple { what, multiple, found })
            }
        };
        let (of, each) = match self {
            Self::I2S => (multiple(INPUTS, columns, I2S_BLOCK)?, I2S_BLOCK / QUARTERS),
            Self::Tq2_0 => (multiple(INPUTS, columns, BLOCK)?, TQ2_BYTES),
            Self::Tq1_0 => (multiple(INPUTS, columns, BLOCK)?, TQ1_BYTES),
            Self::HuggingFace => {
                return multiple(OUTPUTS, rows, QUARTERS)?.checked_mul(columns).ok_or(shape);
            }
        };
        rows.checked_mul(of * each).ok_or(shape)
    }
}

const INPUTS: &str = "a number of inputs";
const OUTPUTS: &str = "a number of outputs";

/// The index of the first byte that holds the code 3.
pub(super) fn fourth_code(bytes: &[u8]) -> Option<usize> {
    /// Bytes that are looked at together: branches between them would keep the loop from being vectorised.
    const CHUNK: usize = 1 << 12;
    let threes = |byte: &u8| byte & byte >> 1 & 0b0101_0101;
    let chunk = bytes.chunks(CHUNK).position(|chunk| chunk.iter().fold(0, |all, byte| all | threes(byte)) != 0)?;
    let start = chunk * CHUNK;
    bytes[start..].iter().position(|byte| threes(byte) != 0).map(|at| start + at)
}

/// The codes of a row of steps of 64 bytes with 256 codes each; see [`Packing::I2S`] and [`Packing::Tq2_0`]. `to` has room
/// for the codes of all bytes.
pub(super) fn unpack_blocks<const MSB: bool>(row: &[u8], step: usize, to: &mut [u8]) {
    for (bytes, to) in row.chunks(step).zip(to.chunks_mut(BLOCK)) {
        // The row may end with half a step.
        let halves = bytes[..bytes.len().min(BLOCK_BYTES)].as_chunks::<RUN>().0;
        for (bytes, to) in halves.iter().zip(to.as_chunks_mut::<{ RUN * QUARTERS }>().0) {
            for (group, to) in to.as_chunks_mut::<RUN>().0.iter_mut().enumerate() {
                let shift = shift::<MSB>(group);
                for (to, byte) in to.iter_mut().zip(bytes) {
                    *to = byte >> shift & 0b11;
                }
            }
        }
    }
}

/// Where the codes of a group of 32 values are in their bytes.
pub(super) const fn shift<const MSB: bool>(group: usize) -> usize {
    if MSB { 6 - 2 * group } else { 2 * group }
}

/// The codes of the four rows that share a row of bytes; see [`Packing::HuggingFace`].
pub(super) fn unpack_quarters(row: &[u8], quarter: usize, to: &mut [u8]) {
    for (to, byte) in to.iter_mut().zip(row) {
        *to = byte >> (2 * quarter) & 0b11;
    }
}

/// The codes of a row in base 3; see [`Packing::Tq1_0`].
pub(super) fn unpack_base3(row: &[u8], to: &mut [u8]) {
    for (block, to) in row.chunks_exact(TQ1_BYTES).zip(to.chunks_exact_mut(BLOCK)) {
        let mut at = 0;
        let mut run = |bytes: &[u8], trits: usize| {
            let mut power = 1u8;
            for _ in 0..trits {
                for (to, byte) in to[at..].iter_mut().zip(bytes) {
                    *to = trit(byte.wrapping_mul(power));
                }
                at += bytes.len();
                power *= 3;
            }
        };
        let (long, rest) = block.split_at(FIVES.0);
        let (short, rest) = rest.split_at(FIVES.1);
        run(long, TRITS);
        run(short, TRITS);
        run(&rest[..FOURS], TRITS - 1);
    }
}

/// The first trit of a byte: `byte * 3 >> 8`, without a wider integer.
fn trit(byte: u8) -> u8 {
    u8::from(byte >= 86) + u8::from(byte >= 171)
}
