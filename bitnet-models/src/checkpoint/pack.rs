//! Packs ternary values into the layouts of the formats: the inverse of what the kernels read.
//!
//! Sources are named at each function; `docs/FORMATS.md` draws the layouts.

use half::f16;

/// The values in a block of I2_S.
pub const I2_S_BLOCK: usize = 128;
/// The values in a block of TQ1_0 and TQ2_0.
pub const TQ_BLOCK: usize = 256;

/// The code of a value: 0, 1, 2 for -1, 0, +1.
fn code(value: i8) -> u8 {
    (value + 1).cast_unsigned()
}

/// Packs a row into I2_S (`quantize_to_i2_s` in `utils/convert-hf-to-gguf-bitnet.py` of microsoft/BitNet): of 128 values,
/// value j goes to byte j % 32, the first 32 into the highest two bits. What does not fill a block is left out.
pub fn i2_s(values: &[i8], to: &mut Vec<u8>) {
    for block in values.as_chunks::<I2_S_BLOCK>().0 {
        to.extend((0..32).map(|byte| (0..4).fold(0, |packed, group| packed << 2 | code(block[group * 32 + byte]))));
    }
}

/// Packs a row into TQ2_0 (`quantize_row_tq2_0_ref` in `ggml-quants.c` of llama.cpp): of 128 values, value j goes to byte
/// j % 32, the first 32 into the lowest two bits; the scale follows every 256 values.
pub fn tq2_0(values: &[i8], scale: f16, to: &mut Vec<u8>) {
    for block in values.as_chunks::<TQ_BLOCK>().0 {
        for half in block.as_chunks::<128>().0 {
            to.extend(
                (0..32).map(|byte| (0..4).rev().fold(0, |packed, group| packed << 2 | code(half[group * 32 + byte]))),
            );
        }
        to.extend(scale.to_le_bytes());
    }
}

/// Packs a row into TQ1_0 (`quantize_row_tq1_0_ref` in `ggml-quants.c` of llama.cpp): five values a byte as digits to the
/// base 3, the first the most significant, as a fraction of 243 in 256ths; the scale follows every 256 values.
pub fn tq1_0(values: &[i8], scale: f16, to: &mut Vec<u8>) {
    /// Digits in a byte, and 3 to that power.
    const DIGITS: (usize, u16) = (5, 243);
    for block in values.as_chunks::<TQ_BLOCK>().0 {
        let mut pack = |values: &[i8], bytes: usize| {
            for byte in 0..bytes {
                let digits = values.len() / bytes;
                let number = (0..digits).fold(0, |number, n| number * 3 + u16::from(code(values[byte + n * bytes])));
                // The last byte's group has four digits, which stand where the first four of five would.
                let number = if digits < DIGITS.0 { number * 3 } else { number };
                #[allow(clippy::cast_possible_truncation)] // below 256
                to.push((number * 256).div_ceil(DIGITS.1) as u8);
            }
        };
        pack(&block[..160], 32);
        pack(&block[160..240], 16);
        pack(&block[240..], 4);
        to.extend(scale.to_le_bytes());
    }
}

/// Packs four rows that are a quarter of the matrix apart into one row of bytes (`pack_weights` in
/// `integrations/bitnet.py` of transformers): the value of the first in the lowest two bits.
pub fn hugging_face(rows: [&[i8]; 4], to: &mut Vec<u8>) {
    let [first, second, third, fourth] = rows;
    let pairs = first.iter().zip(second).zip(third.iter().zip(fourth));
    to.extend(pairs.map(|((a, b), (c, d))| code(*a) | code(*b) << 2 | code(*c) << 4 | code(*d) << 6));
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{hugging_face, i2_s, tq1_0, tq2_0};
    use crate::kernels::{Packing, TernaryMatrix};

    #[allow(clippy::cast_possible_truncation)] // below 3
    fn values(rows: usize, columns: usize) -> Vec<i8> {
        // Every triple of neighbours, and no period of a block's size.
        (0..rows * columns).map(|i| ((i * i / 7 + i / 5) % 3) as i8 - 1).collect()
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let (rows, columns) = (8, 512);
        let values = values(rows, columns);
        for packing in [Packing::I2S, Packing::Tq2_0, Packing::Tq1_0, Packing::HuggingFace] {
            let mut bytes = Vec::new();
            for (index, row) in values.chunks(columns).enumerate() {
                match packing {
                    Packing::I2S => i2_s(row, &mut bytes),
                    Packing::Tq2_0 => tq2_0(row, f16::from_f32(0.5), &mut bytes),
                    Packing::Tq1_0 => tq1_0(row, f16::from_f32(0.5), &mut bytes),
                    Packing::HuggingFace if index < rows / 4 => {
                        let row = |quarter| &values[(index + quarter * rows / 4) * columns..][..columns];
                        hugging_face([row(0), row(1), row(2), row(3)], &mut bytes);
                    }
                    Packing::HuggingFace => (),
                }
            }
            let matrix = TernaryMatrix::new(packing, rows, columns, bytes.into()).expect("whole");
            assert!(matrix.values() == values, "{packing:?}");
        }
    }

    /// Bytes worked out by hand from the layouts in the sources.
    #[test]
    fn the_bytes_of_each_layout() {
        let mut block = [0i8; 256];
        (block[0], block[32], block[64], block[96], block[128]) = (1, -1, 0, 1, -1);
        let pack = |with: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = Vec::new();
            with(&mut bytes);
            bytes
        };
        let bytes = pack(&|to| i2_s(&block, to));
        assert_eq!((bytes.len(), bytes[0], bytes[1], bytes[32]), (64, 0b10_00_01_10, 0b01_01_01_01, 0b00_01_01_01));
        let bytes = pack(&|to| tq2_0(&block, f16::ONE, to));
        assert_eq!(
            (bytes.len(), bytes[0], bytes[32], &bytes[64..]),
            (66, 0b10_01_00_10, 0b01_01_01_00, &[0, 0x3c][..])
        );
        let bytes = pack(&|to| tq1_0(&block, f16::ONE, to));
        // Digits 2, 0, 1, 2, 0: 2 * 81 + 9 + 2 * 3 = 177 of 243; all ones: 121 of 243, and 120 of 243 where there are four.
        assert_eq!((bytes.len(), bytes[0], bytes[1], bytes[48]), (54, 187, 128, 127));
    }
}
