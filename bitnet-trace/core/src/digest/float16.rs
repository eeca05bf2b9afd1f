//! The two 16-bit floating-point types: how they become f32, and how numbers are rounded to them.
//!
//! The results are those of the crate `half`, with which candle converts. That crate builds a proc macro, and the
//! core has none among its dependencies.

use super::dtype::Precision;

/// The value of a [`Dtype::BF16`](super::Dtype::BF16), which is the upper half of an f32. A signalling NaN becomes
/// quiet.
pub(crate) const fn bf16_to_f32(bits: u16) -> f32 {
    let quiet = if bits & 0x7FFF > 0x7F80 { 0x0040 } else { 0 };
    f32::from_bits(((bits | quiet) as u32) << 16)
}

/// The value of a [`Dtype::F16`](super::Dtype::F16): 5 exponent bits with a bias of 15, 10 mantissa bits. A signalling
/// NaN becomes quiet.
pub(crate) const fn f16_to_f32(bits: u16) -> f32 {
    /// The value of the last place of a subnormal number.
    const LEAST: f32 = f32::from_bits((127 - 24) << 23);
    let (sign, half) = (((bits & 0x8000) as u32) << 16, bits & 0x7FFF);
    let moved = (half as u32) << 13;
    let magnitude = match half {
        0..0x0400 => (half as f32 * LEAST).to_bits(),
        0x0400..0x7C00 => moved + ((127 - 15) << 23),
        0x7C00 => f32::INFINITY.to_bits(),
        _ => moved | 0x7FC0_0000,
    };
    f32::from_bits(sign | magnitude)
}

/// The f16 that is nearest to the nearest f32, ties to even.
#[allow(clippy::cast_possible_truncation)] // it is meant to round
pub(crate) fn to_f16(value: f64) -> f64 {
    rounded(f64::from(value as f32), Precision { mantissa: 10, least_exponent: -14 })
}

/// The bf16 that is nearest to the number without the lower 32 of its bits, ties to even.
pub(crate) fn to_bf16(value: f64) -> f64 {
    let upper = if value.is_nan() { value } else { f64::from_bits(value.to_bits() >> 32 << 32) };
    rounded(upper, Precision { mantissa: 7, least_exponent: -126 })
}

/// The number of a type with infinities that is nearest, ties to even.
fn rounded(value: f64, Precision { mantissa, least_exponent }: Precision) -> f64 {
    const MANTISSA: i32 = f64::MANTISSA_DIGITS.cast_signed() - 1;
    const BIAS: i32 = f64::MAX_EXP - 1;
    let power_of_two = |exponent: i32| f64::from_bits(u64::from((exponent + BIAS).cast_unsigned()) << MANTISSA);
    // The exponents of an IEEE type reach as far up as down, but for the one of zeros and subnormal numbers.
    let greatest_exponent = 1 - least_exponent;
    let limit = power_of_two(greatest_exponent + 1);
    if value.is_nan() {
        return value;
    }
    if value.abs() >= limit {
        return f64::INFINITY.copysign(value);
    }
    #[allow(clippy::cast_possible_truncation)] // eleven bits
    let exponent = (value.abs().to_bits() >> MANTISSA) as i32 - BIAS;
    let last_place = exponent.max(least_exponent) - mantissa.cast_signed();
    // The sum has the last place of the type, and the addition rounds to it.
    let large = 1.5 * power_of_two(last_place + MANTISSA);
    let rounded = value + large - large;
    if rounded.abs() < limit { rounded } else { f64::INFINITY.copysign(value) }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::{bf16_to_f32, f16_to_f32, to_bf16, to_f16};

    #[test]
    fn all_patterns_have_the_values_of_the_crate_half() {
        for bits in 0..=u16::MAX {
            for (found, expected) in [
                (bf16_to_f32(bits), bf16::from_bits(bits).to_f32_const()),
                (f16_to_f32(bits), f16::from_bits(bits).to_f32_const()),
            ] {
                assert_eq!(found.to_bits(), expected.to_bits(), "{bits:#x}: {found}, expected {expected}");
            }
        }
    }

    fn is_rounded_as_by_half(value: f64) {
        #[allow(clippy::cast_possible_truncation)] // as on processors that convert from f32 alone
        let f16 = f16::from_f32_const(value as f32).to_f64_const();
        for (found, expected) in [(to_f16(value), f16), (to_bf16(value), bf16::from_f64_const(value).to_f64_const())] {
            #[allow(clippy::float_cmp)] // rounded alike; zeros of either sign are the same
            let same = found == expected || found.is_nan() && expected.is_nan();
            assert!(same, "{value:e} ({:#x}): {found:e}, expected {expected:e}", value.to_bits());
        }
    }

    /// Every number of both types, the middles between neighbours, and what lies next to them.
    #[test]
    fn numbers_are_rounded_to_the_nearest_as_by_the_crate_half() {
        for bits in 0..=u16::MAX {
            for (value, next) in [
                (bf16::from_bits(bits).to_f64_const(), bf16::from_bits(bits.wrapping_add(1)).to_f64_const()),
                (f16::from_bits(bits).to_f64_const(), f16::from_bits(bits.wrapping_add(1)).to_f64_const()),
            ] {
                for value in [value, f64::midpoint(value, next)] {
                    for value in [value, value.next_up(), value.next_down(), value * (1.0 + 1e-6), value * (1.0 - 1e-6)]
                    {
                        is_rounded_as_by_half(value);
                    }
                }
            }
        }
        for value in [f64::MAX, f64::MIN, f64::MIN_POSITIVE, 5e-324, -5e-324, 65_519.999, 65_520.0] {
            is_rounded_as_by_half(value);
        }
    }

    proptest! {
        #[test]
        fn any_number_is_rounded_as_by_the_crate_half(f64 in any::<u64>(), f32 in any::<u32>(), exponent in -30i32..20) {
            is_rounded_as_by_half(f64::from_bits(f64));
            is_rounded_as_by_half(f64::from(f32::from_bits(f32)));
            is_rounded_as_by_half(2f64.powi(exponent) * (1.0 + f64::from(f32) / 4_294_967_296.0));
        }
    }
}
