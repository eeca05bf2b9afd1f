//! The element types that tensors may have, and how 8-bit floats become f32.

use super::float16::f16_to_f32;

/// The precision and range of a floating-point type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Precision {
    /// Number of stored mantissa bits.
    pub(crate) mantissa: u32,
    /// Exponent of the smallest normal number.
    pub(crate) least_exponent: i32,
}

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// Unsigned 8-bit integers.
    U8,
    /// Unsigned 32-bit integers.
    U32,
    /// Signed 16-bit integers.
    I16,
    /// Signed 32-bit integers.
    I32,
    /// Signed 64-bit integers.
    I64,
    /// bfloat16: the upper half of single precision.
    BF16,
    /// IEEE half precision.
    F16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// 8-bit floats with 4 exponent and 3 mantissa bits, without infinities: "E4M3" in Micikevicius et
    /// al., FP8 Formats for Deep Learning (2022); PyTorch's `float8_e4m3fn`.
    F8E4M3,
    /// 8-bit floats with 5 exponent and 2 mantissa bits, the upper half of IEEE half precision: "E5M2" in
    /// the same paper; PyTorch's `float8_e5m2`.
    F8E5M2,
}

impl Dtype {
    /// All element types.
    pub const ALL: [Self; 11] = [
        Self::U8,
        Self::U32,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::BF16,
        Self::F16,
        Self::F32,
        Self::F64,
        Self::F8E4M3,
        Self::F8E5M2,
    ];

    /// The name in records: `F32`, `BF16`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "U8",
            Self::U32 => "U32",
            Self::I16 => "I16",
            Self::I32 => "I32",
            Self::I64 => "I64",
            Self::BF16 => "BF16",
            Self::F16 => "F16",
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::F8E4M3 => "F8E4M3",
            Self::F8E5M2 => "F8E5M2",
        }
    }

    /// The type that records call by this name; `None` for an unknown name.
    #[must_use]
    pub fn of_record(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// The name in the header of a safetensors file.
    #[must_use]
    pub fn safetensors_name(self) -> &'static str {
        match self {
            Self::F8E4M3 => "F8_E4M3",
            Self::F8E5M2 => "F8_E5M2",
            other => other.name(),
        }
    }

    /// The type that headers of safetensors files call by this name; `None` for an unknown name.
    #[must_use]
    pub fn of_safetensors(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.safetensors_name() == name)
    }

    /// Size of an element in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::F8E4M3 | Self::F8E5M2 => 1,
            Self::I16 | Self::BF16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Precision and range of a floating-point type; `None` for integers.
    pub(crate) fn precision(self) -> Option<Precision> {
        let (mantissa, least_exponent) = match self {
            Self::F8E4M3 => (3, -6),
            Self::F8E5M2 => (2, -14),
            Self::BF16 => (7, -126),
            Self::F16 => (10, -14),
            Self::F32 => (23, -126),
            Self::F64 => (52, -1022),
            Self::U8 | Self::U32 | Self::I16 | Self::I32 | Self::I64 => return None,
        };
        Some(Precision { mantissa, least_exponent })
    }

    /// The largest relative error of rounding a number to the type; 0 for integers.
    pub(crate) fn unit_roundoff(self) -> f64 {
        self.precision().map_or(0.0, |precision| 2f64.powi(-1 - precision.mantissa.cast_signed()))
    }

    /// Whether f32 cannot hold all values of the type exactly.
    pub(crate) fn f32_is_lossy(self) -> bool {
        matches!(self, Self::F64 | Self::I64 | Self::U32 | Self::I32)
    }
}

/// The f32 that every NaN of an 8-bit type becomes, whatever its sign: the half-precision NaN with all exponent
/// and mantissa bits set, widened to f32. candle converts them so, and the test vectors require it.
const F8_NAN: f32 = f32::from_bits(0x7FFF_E000);

/// The value of a [`Dtype::F8E4M3`]. The pattern with all exponent and mantissa bits set is NaN; there are no
/// infinities.
pub(crate) fn f8e4m3(byte: u8) -> f32 {
    F8E4M3_VALUES[usize::from(byte)]
}

/// The value of a [`Dtype::F8E5M2`].
pub(crate) fn f8e5m2(byte: u8) -> f32 {
    F8E5M2_VALUES[usize::from(byte)]
}

/// By bit pattern: looking a value up takes a quarter of the time of computing it.
static F8E4M3_VALUES: [f32; 256] = {
    let mut values = [F8_NAN; 256];
    let mut pattern = 0u32;
    while pattern < 256 {
        let (sign, exponent, mantissa) = (pattern >> 7, pattern >> 3 & 15, pattern & 7);
        if exponent == 0 {
            // Subnormal: the last place is 2^-9.
            #[allow(clippy::cast_precision_loss)] // three bits
            let magnitude = mantissa as f32 / 512.0;
            values[pattern as usize] = if sign == 0 { magnitude } else { -magnitude };
        } else if exponent != 15 || mantissa != 7 {
            // The exponent's bias is 7, that of f32 is 127.
            values[pattern as usize] = f32::from_bits(sign << 31 | (exponent + 127 - 7) << 23 | mantissa << 20);
        }
        pattern += 1;
    }
    values
};

static F8E5M2_VALUES: [f32; 256] = {
    let mut values = [F8_NAN; 256];
    let mut pattern = 0u16;
    while pattern < 256 {
        // The upper half of half precision.
        let value = f16_to_f32(pattern << 8);
        if !value.is_nan() {
            values[pattern as usize] = value;
        }
        pattern += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::{Dtype, f8e4m3, f8e5m2};

    #[test]
    fn names_are_read_as_they_are_written() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::of_record(dtype.name()), Some(dtype));
            assert_eq!(Dtype::of_safetensors(dtype.safetensors_name()), Some(dtype));
        }
        assert_eq!(Dtype::of_safetensors("F8_E4M3"), Some(Dtype::F8E4M3));
        assert_eq!(Dtype::of_safetensors("BF16"), Some(Dtype::BF16));
        for unknown in ["", "f32", "F8E4M3", "BOOL"] {
            assert_eq!(Dtype::of_safetensors(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn eight_bit_floats_have_the_values_of_the_crate_float8() {
        for byte in 0..=255 {
            for (found, expected) in [
                (f8e4m3(byte), float8::F8E4M3::from_bits(byte).to_f32()),
                (f8e5m2(byte), float8::F8E5M2::from_bits(byte).to_f32()),
            ] {
                assert_eq!(found.to_bits(), expected.to_bits(), "{byte:#x}: {found}, expected {expected}");
            }
        }
    }
}
