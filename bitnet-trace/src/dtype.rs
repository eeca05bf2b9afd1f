//! The element types of captured values.

/// Smallest exponents at which floating-point numbers are normal, and mantissa bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Precision {
    /// Bits of the mantissa that are stored.
    pub(crate) mantissa: u32,
    /// Exponent of the smallest normal number.
    pub(crate) least_exponent: i32,
}

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dtype {
    U8,
    U32,
    I16,
    I32,
    I64,
    BF16,
    F16,
    F32,
    F64,
    F8E4M3,
}

impl Dtype {
    const ALL: [Self; 10] = [
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
    ];

    /// As records name it.
    pub(crate) fn name(self) -> &'static str {
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
        }
    }

    pub(crate) fn of_record(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// As the header of a safetensors file names it.
    pub(crate) fn of_safetensors(name: &str) -> Option<Self> {
        if name == "F8_E4M3" {
            Some(Self::F8E4M3)
        } else {
            Self::of_record(name).filter(|dtype| *dtype != Self::F8E4M3)
        }
    }

    /// Bytes of an element.
    pub(crate) fn size(self) -> usize {
        match self {
            Self::U8 | Self::F8E4M3 => 1,
            Self::I16 | Self::BF16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Of floating-point types.
    pub(crate) fn precision(self) -> Option<Precision> {
        let (mantissa, least_exponent) = match self {
            Self::F8E4M3 => (3, -6),
            Self::BF16 => (7, -126),
            Self::F16 => (10, -14),
            Self::F32 => (23, -126),
            Self::F64 => (52, -1022),
            Self::U8 | Self::U32 | Self::I16 | Self::I32 | Self::I64 => return None,
        };
        Some(Precision { mantissa, least_exponent })
    }

    /// How far rounding to the type moves a number, relative to it; 0 for integers.
    pub(crate) fn unit_roundoff(self) -> f64 {
        self.precision().map_or(0.0, |precision| 2f64.powi(-1 - precision.mantissa.cast_signed()))
    }
}

/// A number of 4 exponent and 3 mantissa bits, "E4M3" in Micikevicius et al.: FP8 Formats for Deep
/// Learning (2022): no infinities, all ones are NaN.
pub(crate) fn f8e4m3(byte: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa / 8.0 * 2f64.powi(-6),
        _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
    };
    if byte & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::{Dtype, f8e4m3};

    #[test]
    fn names_are_read_as_they_are_written() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::of_record(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::of_safetensors("F8_E4M3"), Some(Dtype::F8E4M3));
        assert_eq!(Dtype::of_safetensors("BF16"), Some(Dtype::BF16));
        for unknown in ["", "f32", "F8E4M3", "BOOL"] {
            assert_eq!(Dtype::of_safetensors(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn eight_bits_mean_what_they_mean_to_candle() {
        for byte in 0..=255 {
            let (found, expected) = (f8e4m3(byte), f64::from(float8::F8E4M3::from_bits(byte).to_f32()));
            let same = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
            assert!(same, "{byte:#x}: {found}, expected {expected}");
        }
    }
}
