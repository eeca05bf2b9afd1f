//! Property tests of every kernel against the definition.

use half::{bf16, f16};
use proptest::prelude::*;

use super::reference::{expected, found};
use super::{Layout, Storage};
use crate::digest::Kernel;

/// Elements as a model computes them, mixed with extreme values and values that are not finite.
fn values(len: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<f32>> {
    let strange = prop_oneof![
        Just(0.0f32),
        Just(-0.0),
        Just(f32::MAX),
        Just(f32::MIN),
        any::<u32>().prop_map(|bits| f32::from_bits(bits & 0x807F_FFFF)),
        any::<u32>().prop_map(f32::from_bits),
    ];
    let not_finite = any::<u32>().prop_map(|bits| f32::from_bits(bits | 0x7F80_0000));
    let usual = -4.0f32..4.0;
    let (some, finite) = (
        prop_oneof![40 => usual.clone(), 4 => strange.clone(), 1 => not_finite],
        prop_oneof![40 => usual, 4 => strange.prop_filter("finite", |x| x.is_finite())],
    );
    let len = len.into();
    prop_oneof![proptest::collection::vec(some, len.clone()), proptest::collection::vec(finite, len)]
}

/// Lengths near the borders of lanes, sketch rows, sub-blocks and blocks.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        0usize..200,
        (prop_oneof![Just(64usize), Just(4096), Just(8192), Just(16384), Just(20480)], 0usize..40)
            .prop_map(|(border, more)| border + more - 20),
    ]
}

fn f32_of(storage: &Storage, offsets: &[usize]) -> Vec<f32> {
    let at = |index: &usize| match storage {
        Storage::F32(data) => data[*index],
        Storage::BF16(data) => bf16::from_bits(data[*index]).to_f32(),
        Storage::F16(data) => f16::from_bits(data[*index]).to_f32(),
        other => panic!("{other:?}"),
    };
    offsets.iter().map(at).collect()
}

/// The storage offsets of a layout's elements in logical order.
fn offsets(layout: &Layout) -> Vec<usize> {
    let mut offsets = vec![layout.offset];
    for (&size, &stride) in layout.shape.iter().zip(&layout.strides) {
        offsets = offsets.iter().flat_map(|&offset| (0..size).map(move |step| offset + step * stride)).collect();
    }
    offsets
}

fn check(storage: &Storage, layout: &Layout) {
    let values = f32_of(storage, &offsets(layout));
    let expected = expected(&values, layout.shape.last().copied().unwrap_or(1));
    for kernel in Kernel::available() {
        assert_eq!(found(kernel, storage, layout), expected, "{kernel:?} {layout:?}");
    }
}

/// A tensor of up to four dimensions with any layout: permuted, with gaps, broadcast.
fn layout() -> impl Strategy<Value = Layout> {
    let dimension = (1usize..24, 0usize..4, 1usize..3);
    (proptest::collection::vec(dimension, 1..=4), any::<u64>(), 0usize..5).prop_map(|(dimensions, order, offset)| {
        let rank = dimensions.len();
        let mut strides = vec![0; rank];
        let mut next = 1;
        // Dimensions take memory in any order; one of kind 0 takes none and is broadcast.
        let mut left: Vec<usize> = (0..rank).collect();
        let mut order = order;
        while !left.is_empty() {
            let pick = left.remove(usize::try_from(order % left.len() as u64).expect("small"));
            order /= 7;
            let (size, kind, gap) = dimensions[pick];
            if kind > 0 {
                strides[pick] = next;
                next *= size * if kind == 3 { gap } else { 1 };
            }
        }
        let shape: Vec<usize> = dimensions.iter().map(|&(size, _, _)| size).collect();
        Layout { offset, shape, strides }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn f32_of_any_length(values in length().prop_flat_map(values), row in 1usize..300) {
        let len = values.len();
        check(&Storage::F32(values.clone()), &Layout::contiguous(&[len]));
        let rows = len / row;
        check(&Storage::F32(values), &Layout::contiguous(&[rows, row]));
    }

    #[test]
    fn f32_from_any_address(values in values(5000..5100usize), start in 0usize..32) {
        let len = values.len() - start;
        check(&Storage::F32(values), &Layout { offset: start, ..Layout::contiguous(&[len]) });
    }

    #[test]
    fn halves_of_any_bits(bits in length().prop_flat_map(|len| proptest::collection::vec(any::<u16>(), len))) {
        let layout = Layout::contiguous(&[bits.len()]);
        check(&Storage::BF16(bits.clone()), &layout);
        check(&Storage::F16(bits), &layout);
    }

    #[test]
    fn strided(layout in layout(), seed in values(1..64usize)) {
        let reach = offsets(&layout).into_iter().max().unwrap_or(0) + 1;
        let values: Vec<f32> = seed.into_iter().cycle().take(reach).enumerate().map(|(index, value)| {
            if index % 3 == 0 { value } else { f32::from(u16::try_from(index % 65536).expect("16 bits")) }
        }).collect();
        check(&Storage::F32(values.clone()), &layout);
        check(&Storage::BF16(values.into_iter().map(|value| bf16::from_f32(value).to_bits()).collect()), &layout);
    }
}

#[test]
fn every_half_pattern_widens_like_half() {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    for kernel in Kernel::available() {
        let mut found = vec![0.0; bits.len()];
        kernel.widen_bf16(&bits, &mut found);
        for (bits, found) in bits.iter().zip(&found) {
            assert_eq!(found.to_bits(), bf16::from_bits(*bits).to_f32().to_bits(), "{kernel:?} {bits:#x}");
        }
        kernel.widen_f16(&bits, &mut found);
        for (bits, found) in bits.iter().zip(&found) {
            assert_eq!(found.to_bits(), f16::from_bits(*bits).to_f32().to_bits(), "{kernel:?} {bits:#x}");
        }
    }
}
