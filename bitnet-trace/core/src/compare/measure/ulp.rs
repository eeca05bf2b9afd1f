//! Steps between two numbers of a floating-point type.

use crate::digest::dtype::Precision;

/// Bits of the mantissa and bias of the exponent of f64.
const MANTISSA: u32 = 52;
const BIAS: i32 = 1023;

/// How many numbers of the type lie between two of the type; `None` for two of unequal sign.
pub(crate) fn distance(x: f64, y: f64, precision: Precision) -> Option<u64> {
    (x.is_sign_negative() == y.is_sign_negative()).then(|| place(x, precision).abs_diff(place(y, precision)))
}

/// The place of a number's magnitude among all of the type, zero's is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // of magnitudes inside the type
fn place(x: f64, Precision { mantissa, least_exponent }: Precision) -> u64 {
    let bits = x.abs().to_bits();
    if mantissa == MANTISSA {
        return bits;
    }
    let exponent = (bits >> MANTISSA) as i32 - BIAS;
    match u64::try_from(exponent - least_exponent) {
        Ok(binade) => ((binade + 1) << mantissa) + ((bits & ((1 << MANTISSA) - 1)) >> (MANTISSA - mantissa)),
        // Not normal in the type: a multiple of its smallest number.
        Err(_) => (x.abs() * 2f64.powi(mantissa.cast_signed() - least_exponent)) as u64,
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::{distance, place};
    use crate::digest::dtype::{Dtype, f8e4m3};

    #[test]
    fn the_places_are_the_bits_of_the_type() {
        let precision = |dtype: Dtype| dtype.precision().expect("floating point");
        for bits in 0..0x7c00u16 {
            assert_eq!(place(f16::from_bits(bits).to_f64(), precision(Dtype::F16)), u64::from(bits));
        }
        for bits in 0..0x7f80u16 {
            assert_eq!(place(bf16::from_bits(bits).to_f64(), precision(Dtype::BF16)), u64::from(bits));
        }
        for bits in 0..0x7fu8 {
            assert_eq!(place(f64::from(f8e4m3(bits)), precision(Dtype::F8E4M3)), u64::from(bits));
        }
        for bits in (0..0x7f80_0000u32).step_by(65_537).chain([0, 1, 2, 0x007f_ffff, 0x0080_0000]) {
            assert_eq!(place(f64::from(f32::from_bits(bits)), precision(Dtype::F32)), u64::from(bits));
        }
        for x in [0.0, 5e-324, 1.0, -1.0, f64::MAX] {
            assert_eq!(place(x, precision(Dtype::F64)), x.abs().to_bits());
        }
    }

    #[test]
    fn numbers_of_unequal_sign_have_no_distance() {
        let precision = Dtype::F64.precision().expect("floating point");
        assert_eq!(distance(1.0, 1.0 + f64::EPSILON, precision), Some(1));
        assert_eq!(distance(-1.0, -1.0 - f64::EPSILON, precision), Some(1));
        assert_eq!(distance(1.0, -1.0, precision), None);
        assert_eq!(distance(0.0, -0.0, precision), None);
    }
}
