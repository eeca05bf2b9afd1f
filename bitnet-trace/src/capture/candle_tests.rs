//! Compares candle's tensors, read as views, with the elements that candle itself returns.

use candle_core::op::BackpropOp;
use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

use bitnet_trace_core::Error;
use bitnet_trace_core::digest::{Digest, TensorSource, Wanted, digest};

use super::{Source, alone};

fn digested(tensor: &Tensor) -> Result<Digest, Error> {
    let mut found = None;
    Source(tensor).with_view(&mut |view| {
        found = Some(digest(view, Wanted::default()));
        Ok(())
    })?;
    Ok(found.expect("read once"))
}

/// The definition, written for clarity: everything in memory, element by element.
fn slow(tensor: &Tensor) -> (blake3::Hash, f64, f64) {
    let values: Vec<f32> =
        tensor.to_dtype(DType::F32).and_then(|t| t.flatten_all()).and_then(|t| t.to_vec1()).expect("a readable tensor");
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let square: f64 = values.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    let n = f64::from(u32::try_from(values.len()).expect("small"));
    let sum: f64 = values.iter().map(|v| f64::from(*v)).sum();
    (blake3::hash(&bytes), (square / n).sqrt(), sum / n)
}

fn check(tensor: &Tensor) {
    let found = digested(tensor).expect("recordable");
    let (hash, rms, mean) = slow(tensor);
    assert_eq!(found.blake3, hash, "{:?} {:?}", tensor.dtype(), tensor.shape());
    assert!((found.statistics.rms() - rms).abs() <= 1e-12 * rms, "{} {rms}", found.statistics.rms());
    let difference = found.statistics.mean().expect("not empty") - mean;
    assert!(difference.abs() <= 1e-9 * rms.max(1.0), "{difference}");
}

fn ramp(count: usize) -> Tensor {
    Tensor::arange(0u32, u32::try_from(count).expect("small"), &Device::Cpu)
        .and_then(|t| t.to_dtype(DType::F32))
        .and_then(|t| t.affine(0.37, -11.0))
        .expect("a ramp")
}

/// The number of elements that a copy to the host would copy.
fn elements_in_storage(tensor: &Tensor) -> usize {
    match &*tensor.storage_and_layout().0 {
        Storage::Cpu(CpuStorage::F32(data)) => data.len(),
        _ => panic!("f32 on the CPU"),
    }
}

#[test]
fn a_view_leaves_its_storage_without_what_it_does_not_show() {
    let cache = ramp(6 * 64).reshape((6, 64)).expect("as many elements");
    let views = [
        ("the whole", Ok(cache.clone())),
        ("the beginning", cache.narrow(0, 0, 2)),
        ("the end", cache.narrow(0, 5, 1)),
        ("columns", cache.narrow(1, 8, 16)),
        ("transposed", cache.t()),
        ("repeated", cache.narrow(0, 0, 1).and_then(|row| row.broadcast_as((3, 64)))),
        ("nothing", cache.narrow(0, 0, 0)),
    ];
    for (label, view) in views {
        let view = view.expect(label);
        let alone = alone(&view);
        assert_eq!(elements_in_storage(&alone), view.elem_count(), "{label}");
        let hash = |tensor| digested(tensor).expect("recordable").blake3;
        assert_eq!((hash(&alone), alone.dims()), (hash(&view), view.dims()), "{label}");
    }
}

#[test]
fn every_type_and_length() {
    for count in [1, 15, 16, 17, 4095, 4096, 4097, 16383, 16384, 16385, 40000] {
        check(&ramp(count));
    }
    for dtype in
        [DType::F64, DType::F16, DType::BF16, DType::U8, DType::U32, DType::I16, DType::I32, DType::I64, DType::F8E4M3]
    {
        check(&ramp(20000).affine(0.01, 0.0).and_then(|t| t.to_dtype(dtype)).expect("a conversion"));
    }
}

#[test]
fn strided_tensors_are_read_in_logical_order() {
    let square = ramp(150 * 200).reshape((150, 200)).expect("a matrix");
    check(&square.t().expect("transposed"));
    check(&square.narrow(1, 3, 90).expect("columns"));
    check(&square.narrow(0, 7, 90).expect("rows"));
    check(&ramp(200).broadcast_as((150, 200)).expect("rows repeated"));
    check(&ramp(150).reshape((150, 1)).and_then(|t| t.broadcast_as((150, 200))).expect("columns repeated"));
    let halves = square.to_dtype(DType::BF16).expect("bf16");
    check(&halves.reshape((5, 30, 200)).and_then(|t| t.transpose(0, 2)).expect("permuted"));
}

#[test]
fn empty_and_scalar() {
    let empty = Tensor::zeros((0, 3), DType::F32, &Device::Cpu).expect("empty");
    let found = digested(&empty).expect("recordable");
    assert_eq!(found.blake3, blake3::hash(b""));
    assert!(found.statistics.rms().abs() < f64::MIN_POSITIVE);
    assert_eq!((found.statistics.min(), found.statistics.mean()), (None, None));
    check(&Tensor::new(2.5f32, &Device::Cpu).expect("a scalar"));
}

#[test]
fn packed_placeholders_are_not_recordable() {
    for storage in [CpuStorage::F4(vec![0; 4]), CpuStorage::F6E2M3(vec![0; 4]), CpuStorage::F8E8M0(vec![0; 4])] {
        let tensor = Tensor::from_storage(Storage::Cpu(storage), 4, BackpropOp::none(), false);
        let error = digested(&tensor).expect_err("no conversion");
        assert!(matches!(error, Error::NotRecordable(_)), "{error}");
    }
}

#[test]
fn a_tensor_that_says_more_than_its_storage_holds_is_an_error() {
    let storage = Storage::Cpu(CpuStorage::F32(vec![1.0]));
    let error = digested(&Tensor::from_storage(storage, 2, BackpropOp::none(), false)).expect_err("too short");
    assert!(matches!(error, Error::View { held: 1, .. }), "{error}");
}
