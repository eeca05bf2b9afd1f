//! Unpacks ternary values, one by one.

use half::f16;

use super::{Packing, PackingError};

type Unpacked = (Vec<i8>, Option<Vec<f32>>);

pub(super) fn unpack(packing: Packing, rows: usize, columns: usize, data: &[u8]) -> Result<Unpacked, PackingError> {
    let (block, bytes) = match packing {
        Packing::I2S => (128, 32),
        Packing::Tq2_0 => (256, 66),
        Packing::Tq1_0 => (256, 54),
        Packing::HuggingFace => (1, 1),
    };
    let expected = match packing {
        Packing::HuggingFace => rows / 4 * columns,
        _ => rows * (columns / block) * bytes,
    };
    if data.len() != expected || columns % block != 0 || (packing == Packing::HuggingFace && rows % 4 != 0) {
        return Err(PackingError(format!("{} bytes for [{rows}, {columns}]; expected {expected}, rows of blocks of {block}", data.len())));
    }
    let mut values = Vec::with_capacity(rows * columns);
    let code = |byte: u8, shift: usize, at: usize| match byte >> shift & 3 {
        3 => Err(PackingError(format!("code 3 in byte {at}; expected 0, 1, 2 for -1, 0, +1"))),
        code => Ok(code.cast_signed() - 1),
    };
    let mut scales = Vec::new();
    match packing {
        Packing::HuggingFace => {
            for quarter in 0..4 {
                for (at, byte) in data.iter().enumerate() {
                    values.push(code(*byte, 2 * quarter, at)?);
                }
            }
        }
        Packing::I2S => {
            for at in 0..rows * columns {
                let (block, j) = (at / 128, at % 128);
                let byte = block * 32 + j % 32;
                values.push(code(data[byte], 6 - 2 * (j / 32), byte)?);
            }
        }
        Packing::Tq2_0 => {
            for (index, block) in data.chunks_exact(66).enumerate() {
                for j in 0..256 {
                    let byte = j / 128 * 32 + j % 32;
                    values.push(code(block[byte], 2 * (j % 128 / 32), index * 66 + byte)?);
                }
                scales.push(scale(block[64], block[65], index)?);
            }
        }
        Packing::Tq1_0 => {
            const POWERS: [u8; 5] = [1, 3, 9, 27, 81];
            let trit = |byte: u8, n: usize| {
                ((u16::from(byte.wrapping_mul(POWERS[n])) * 3 >> 8) as u8).cast_signed() - 1
            };
            for (index, block) in data.chunks_exact(54).enumerate() {
                for j in 0..256 {
                    values.push(match j {
                        0..160 => trit(block[j % 32], j / 32),
                        160..240 => trit(block[32 + (j - 160) % 16], (j - 160) / 16),
                        _ => trit(block[48 + (j - 240) % 4], (j - 240) / 4),
                    });
                }
                scales.push(scale(block[52], block[53], index)?);
            }
        }
    }
    Ok((values, (block == 256).then_some(scales)))
}

fn scale(low: u8, high: u8, block: usize) -> Result<f32, PackingError> {
    let scale = f16::from_le_bytes([low, high]).to_f32();
    if scale.is_finite() { Ok(scale) } else { Err(PackingError(format!("the scale {scale} of block {block}; expected a finite number"))) }
}
