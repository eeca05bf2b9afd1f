//! The types of tensors in a GGUF file: ids, names and sizes.
//!
//! Source: `ggml/include/ggml.h` and `ggml/src/ggml-common.h` of llama.cpp; for 36 to 39 the same header of
//! Microsoft's fork, which gave these ids to other types than llama.cpp later did.

use crate::checkpoint::stored::StoredType;

/// The values in a block and the bytes of a block of the types of llama.cpp: id, name, values, bytes.
const BLOCKS: [(u32, &str, u64, u64); 33] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (31, "Q4_0_4_4", 32, 18),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (36, "I2_S", 4, 1),
];

/// The id of I2_S in Microsoft's fork.
pub(crate) const I2_S: u32 = 36;
/// The id of TQ1_0.
pub(crate) const TQ1_0: u32 = 34;
/// The id of TQ2_0.
pub(crate) const TQ2_0: u32 = 35;
/// The id of F32.
pub(crate) const F32: u32 = 0;
/// The id of F16.
pub(crate) const F16: u32 = 1;

/// The bytes after the packed values of an I2_S tensor: its scale as f32, and padding.
pub(crate) const I2_S_TAIL: usize = 32;

/// The type of an id, and the name of one that cannot be run.
pub(super) fn stored_type(id: u32) -> StoredType {
    match id {
        0 => StoredType::F32,
        1 => StoredType::F16,
        8 => StoredType::Q8_0,
        30 => StoredType::Bf16,
        TQ1_0 => StoredType::Tq1_0,
        TQ2_0 => StoredType::Tq2_0,
        I2_S => StoredType::I2S,
        37 => StoredType::Other("I8_S (type 37)".to_owned()),
        38 => StoredType::Other("TL1 (type 38)".to_owned()),
        39 => StoredType::Other("type 39 (TL2 in Microsoft's fork, MXFP4 in llama.cpp)".to_owned()),
        _ => StoredType::Other(match BLOCKS.iter().find(|(known, ..)| *known == id) {
            Some((_, name, ..)) => (*name).to_owned(),
            None => format!("the unknown type {id}"),
        }),
    }
}

/// The bytes of a tensor whose rows have `columns` values; `Ok(None)` if they are not known for the type.
///
/// # Errors
///
/// What is wrong: the rows do not consist of whole blocks, or the size is above the range of `u64`.
pub(super) fn length(id: u32, elements: u64, columns: u64) -> Result<Option<u64>, String> {
    let Some((_, name, values, bytes)) = BLOCKS.iter().find(|(known, ..)| *known == id) else { return Ok(None) };
    if !columns.is_multiple_of(*values) {
        return Err(format!("rows of {columns} values, which is not a multiple of the {values} in a block of {name}"));
    }
    let length = (elements / values).checked_mul(*bytes);
    let tail = if id == I2_S { I2_S_TAIL as u64 } else { 0 };
    match length.and_then(|length| length.checked_add(tail)) {
        Some(length) => Ok(Some(length)),
        None => Err(format!("{elements} values, more bytes than a file can have")),
    }
}

/// Why a linear layer of this type cannot be run and what to do, for the types that a BitNet file may well have.
pub(crate) fn advice(kind: &StoredType) -> &'static str {
    match kind {
        StoredType::Other(name) if name.starts_with("TL1") || name.starts_with("type 39") => {
            "the weights are tiled for one processor and one shape by a table that is not in the file (TL1, TL2), or are \
             not ternary (MXFP4): convert the original checkpoint to I2_S (`setup_env.py -q i2_s` of microsoft/BitNet) \
             or to TQ2_0 (`llama-quantize MODEL.gguf OUT.gguf TQ2_0` of llama.cpp)"
        }
        _ => {
            "convert the original checkpoint to I2_S (`setup_env.py -q i2_s` of microsoft/BitNet), or to TQ2_0, TQ1_0, \
             Q8_0, F16, BF16 or F32 (`llama-quantize` of llama.cpp)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::length;

    #[test]
    fn sizes() {
        assert_eq!(length(36, 2560 * 2560, 2560), Ok(Some(2560 * 2560 / 4 + 32)));
        assert_eq!(length(34, 512, 256), Ok(Some(108)));
        assert_eq!(length(39, 512, 256), Ok(None));
        assert!(length(35, 1000, 500).is_err_and(|reason| reason.contains("block of TQ2_0")));
        assert!(length(0, u64::MAX / 2, 1).is_err());
    }
}
