//! Tests of the whole pass against the definition of the digest.

mod properties;
mod reference;
mod vectors;

use super::{Digest, Elements, TensorView, Wanted, digest};

/// The storage of a tensor that the test owns.
#[derive(Debug)]
enum Storage {
    U8(Vec<u8>),
    U32(Vec<u32>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    BF16(Vec<u16>),
    F16(Vec<u16>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    F8E4M3(Vec<u8>),
    F8E5M2(Vec<u8>),
}

impl Storage {
    fn elements(&self) -> Elements<'_> {
        match self {
            Self::U8(data) => Elements::U8(data),
            Self::U32(data) => Elements::U32(data),
            Self::I16(data) => Elements::I16(data),
            Self::I32(data) => Elements::I32(data),
            Self::I64(data) => Elements::I64(data),
            Self::BF16(data) => Elements::BF16(data),
            Self::F16(data) => Elements::F16(data),
            Self::F32(data) => Elements::F32(data),
            Self::F64(data) => Elements::F64(data),
            Self::F8E4M3(data) => Elements::F8E4M3(data),
            Self::F8E5M2(data) => Elements::F8E5M2(data),
        }
    }
}

/// The layout of a tensor in its storage.
#[derive(Debug, Clone)]
struct Layout {
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Layout {
    fn contiguous(shape: &[usize]) -> Self {
        let mut strides = vec![1; shape.len()];
        for dim in (1..shape.len()).rev() {
            strides[dim - 1] = strides[dim] * shape[dim];
        }
        Self { offset: 0, shape: shape.to_vec(), strides }
    }

    fn view<'a>(&'a self, storage: &'a Storage) -> TensorView<'a> {
        TensorView::strided(storage.elements(), self.offset, &self.shape, &self.strides).expect("inside the storage")
    }
}

fn plain(storage: &Storage, shape: &[usize]) -> Digest {
    digest(&Layout::contiguous(shape).view(storage), Wanted::default())
}

#[test]
fn empty_and_scalar() {
    let found = plain(&Storage::F32(Vec::new()), &[0, 3]);
    assert_eq!(found.blake3, blake3::hash(b""));
    assert!(found.statistics.rms().abs() < f64::MIN_POSITIVE);
    assert_eq!((found.statistics.min(), found.statistics.mean()), (None, None));
    let scalar = plain(&Storage::F32(vec![2.5]), &[]);
    assert_eq!((scalar.blake3, scalar.statistics.mean()), (blake3::hash(&2.5f32.to_le_bytes()), Some(2.5)));
}

#[test]
fn the_raw_hash_differs_for_values_that_are_equal_as_f32() {
    let of = |value: i64| plain(&Storage::I64(vec![value]), &[1]);
    let (a, b) = (of(1 << 24), of((1 << 24) + 1));
    assert_eq!(a.blake3, b.blake3);
    assert_ne!(a.raw_blake3, b.raw_blake3);
    assert!(plain(&Storage::F32(vec![1.0; 3]), &[3]).raw_blake3.is_none());
}

/// Every value of a byte, against the crate float8.
#[test]
fn eight_bit_floats_are_widened_exactly() {
    let bytes: Vec<u8> = (0..=255).collect();
    let shape = [bytes.len()];
    let hash = |values: Vec<f32>| plain(&Storage::F32(values), &shape).blake3;
    let e4m3 = bytes.iter().map(|byte| float8::F8E4M3::from_bits(*byte).to_f32()).collect();
    assert_eq!(plain(&Storage::F8E4M3(bytes.clone()), &shape).blake3, hash(e4m3));
    let e5m2 = bytes.iter().map(|byte| float8::F8E5M2::from_bits(*byte).to_f32()).collect();
    assert_eq!(plain(&Storage::F8E5M2(bytes), &shape).blake3, hash(e5m2));
}
