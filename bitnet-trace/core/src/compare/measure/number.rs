//! Elements as numbers without loss: f64 for floating-point types, i64 for integers.

use crate::digest::dtype::{Dtype, f8e4m3, f8e5m2};
use crate::digest::float16::{bf16_to_f32, f16_to_f32};

/// An element of one side.
pub(crate) trait Number: Copy + Default + PartialEq {
    /// Reads the elements `at`, `at + stride`, ... from little-endian bytes. `narrow` rounds elements of f64 to f32.
    fn read(dtype: Dtype, narrow: bool, bytes: &[u8], at: usize, stride: usize, to: &mut [Self]);

    /// The nearest f64.
    fn value(self) -> f64;

    /// The bits of the element. They tell zeros of either sign, and NaNs, apart.
    fn bits(self) -> u64;

    /// The difference, rounded once.
    fn minus(self, other: Self) -> f64;

    /// The element with the opposite sign; `None` if the type does not have it.
    fn negated(self) -> Option<Self>;

    /// Whether the element is neither NaN nor infinite.
    fn is_finite(self) -> bool {
        self.value().is_finite()
    }

    /// The bits of the element, but the same for zeros of either sign.
    fn bits_of_value(self) -> u64 {
        if self.value() == 0.0 { 0 } else { self.bits() }
    }
}

impl Number for f64 {
    #[allow(clippy::cast_possible_truncation)] // `narrow` asks for it
    fn read(dtype: Dtype, narrow: bool, bytes: &[u8], at: usize, stride: usize, to: &mut [Self]) {
        match dtype {
            Dtype::F8E4M3 => gather(bytes, at, stride, to, |[byte]| f64::from(f8e4m3(byte))),
            Dtype::F8E5M2 => gather(bytes, at, stride, to, |[byte]| f64::from(f8e5m2(byte))),
            Dtype::BF16 => gather(bytes, at, stride, to, |bytes| f64::from(bf16_to_f32(u16::from_le_bytes(bytes)))),
            Dtype::F16 => gather(bytes, at, stride, to, |bytes| f64::from(f16_to_f32(u16::from_le_bytes(bytes)))),
            Dtype::F32 => gather(bytes, at, stride, to, |bytes| f64::from(f32::from_le_bytes(bytes))),
            Dtype::F64 if narrow => {
                gather(bytes, at, stride, to, |bytes| f64::from(f64::from_le_bytes(bytes) as f32));
            }
            Dtype::F64 => gather(bytes, at, stride, to, f64::from_le_bytes),
            Dtype::U8 => gather(bytes, at, stride, to, |[byte]| f64::from(byte)),
            Dtype::U32 => gather(bytes, at, stride, to, |bytes| f64::from(u32::from_le_bytes(bytes))),
            Dtype::I16 => gather(bytes, at, stride, to, |bytes| f64::from(i16::from_le_bytes(bytes))),
            Dtype::I32 => gather(bytes, at, stride, to, |bytes| f64::from(i32::from_le_bytes(bytes))),
            #[allow(clippy::cast_precision_loss)]
            // integers are only read as f64 if the other side has floating-point numbers
            Dtype::I64 => gather(bytes, at, stride, to, |bytes| i64::from_le_bytes(bytes) as f64),
        }
    }

    fn value(self) -> f64 {
        self
    }

    fn bits(self) -> u64 {
        self.to_bits()
    }

    fn minus(self, other: Self) -> f64 {
        self - other
    }

    fn negated(self) -> Option<Self> {
        Some(-self)
    }
}

impl Number for i64 {
    #[allow(clippy::cast_possible_truncation)] // floating-point numbers are never read as i64
    fn read(dtype: Dtype, _: bool, bytes: &[u8], at: usize, stride: usize, to: &mut [Self]) {
        match dtype {
            Dtype::U8 => gather(bytes, at, stride, to, |[byte]| i64::from(byte)),
            Dtype::U32 => gather(bytes, at, stride, to, |bytes| i64::from(u32::from_le_bytes(bytes))),
            Dtype::I16 => gather(bytes, at, stride, to, |bytes| i64::from(i16::from_le_bytes(bytes))),
            Dtype::I32 => gather(bytes, at, stride, to, |bytes| i64::from(i32::from_le_bytes(bytes))),
            Dtype::I64 => gather(bytes, at, stride, to, i64::from_le_bytes),
            Dtype::BF16 | Dtype::F16 | Dtype::F32 | Dtype::F64 | Dtype::F8E4M3 | Dtype::F8E5M2 => {
                let mut values = vec![0.0; to.len()];
                f64::read(dtype, false, bytes, at, stride, &mut values);
                to.iter_mut().zip(values).for_each(|(to, value)| *to = value as Self);
            }
        }
    }

    #[allow(clippy::cast_precision_loss)] // the nearest
    fn value(self) -> f64 {
        self as f64
    }

    fn bits(self) -> u64 {
        self.cast_unsigned()
    }

    #[allow(clippy::cast_precision_loss)] // the nearest to the exact difference
    fn minus(self, other: Self) -> f64 {
        (i128::from(self) - i128::from(other)) as f64
    }

    fn negated(self) -> Option<Self> {
        self.checked_neg()
    }
}

fn gather<T: Copy, const N: usize>(
    bytes: &[u8],
    at: usize,
    stride: usize,
    to: &mut [T],
    number: impl Fn([u8; N]) -> T,
) {
    let (elements, _) = bytes.as_chunks::<N>();
    let from = &elements[at..];
    match stride {
        0 => to.fill(number(from[0])),
        1 => to.iter_mut().zip(from).for_each(|(to, bytes)| *to = number(*bytes)),
        _ => to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, bytes)| *to = number(*bytes)),
    }
}

/// Collects different elements until there are enough: what a few different elements show may be chance.
#[derive(Debug, Default)]
pub(crate) struct Distinct(Vec<u64>);

/// This many different elements are enough.
pub(crate) const ENOUGH: usize = 8;

impl Distinct {
    /// Adds an element. Zeros of either sign count as the same.
    pub(crate) fn add(&mut self, number: impl Number) {
        if self.0.len() < ENOUGH {
            let bits = number.bits_of_value();
            if !self.0.contains(&bits) {
                self.0.push(bits);
            }
        }
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.0.len() >= ENOUGH
    }
}
