//! Captured values: files made to mislead, and numbers of every type.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use bitnet_trace::compare::Difference;
use bitnet_trace::{ToTensor, Tolerance, Trace, diff};
use candle_core::{DType, Device, Tensor};

use crate::{Directory, noise, of, paths, tensor};

/// A directory with one record of f32 and its values, header and data given.
fn written(shape: &str, elements: u64, header: &str, data: &[u8], length: Option<u64>) -> Directory {
    let hash = "ab".repeat(32);
    let record = format!(
        r#"{{"name":"x","shape":{shape},"dtype":"F32","num_elements":{elements},"rms":1.0,"blake3":"{hash}","values":"x.safetensors"}}"#
    );
    let directory = Directory::new(&[("trace.jsonl", &record)]);
    write(&directory.path("x.safetensors"), header, data, length);
    directory
}

fn write(path: &Path, header: &str, data: &[u8], length: Option<u64>) {
    let mut file = File::create(path).expect("created");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.write_all(data).expect("written");
    if let Some(length) = length {
        file.set_len(length).expect("a sparse file");
    }
}

fn values(directory: &Directory) -> Result<Vec<f32>, String> {
    let trace = Trace::open(directory.path("trace.jsonl")).expect("readable");
    let values = trace.values(&trace.records()[0]).map_err(|error| error.to_string())?;
    let tensor = values.expect("captured").to_tensor(&Device::Cpu).and_then(|tensor| tensor.flatten_all());
    Ok(tensor.and_then(|tensor| tensor.to_vec1()).expect("f32"))
}

const DATA: [u8; 8] = [0, 0, 128, 63, 0, 0, 0, 64];

/// Each of these was believed, or read to its end, before anything was looked at.
#[test]
fn nothing_is_read_that_header_record_and_file_do_not_agree_on() {
    let header = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"__metadata__":{{"a":"b"}},"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let good = header("F32", "[2]", "[0,8]");
    assert_eq!(values(&written("[2]", 2, &good, &DATA, None)), Ok(vec![1.0, 2.0]));
    let terabyte = Some(1 << 40);
    let (many, huge) = (1u64 << 37, (1u64 << 40).to_string());
    let two = good.replace(r#""x":"#, r#""y":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":"#);
    let cases: [(&str, u64, &str, Option<u64>, &str); 13] = [
        ("[2]", 2, &good, terabyte, "the file has"),
        ("[2]", many, &good, terabyte, "has not the"),
        ("[137438953472]", many, &good, terabyte, "shape [2], their record says"),
        ("[2]", 2, &header("F32", "[137438953472]", "[0,549755813888]"), terabyte, "their record says [2]"),
        ("[274877906944]", 1 << 38, &header("F32", "[274877906944]", &format!("[0,{huge}]")), None, "the file has"),
        ("[2]", 2, &header("F32", "[2]", "[4,12]"), None, "at bytes [4, 12]"),
        ("[2]", 2, &header("F32", "[2]", "[8,0]"), None, "at bytes [8, 0]"),
        ("[2]", 2, &header("F32", "[2]", "[0,4]"), None, "at bytes [0, 4]"),
        ("[2]", 2, &header("F64", "[2]", "[0,16]"), None, "the type F64, their record says F32"),
        ("[2]", 2, &header("BOOL", "[2]", "[0,2]"), None, r#"type "BOOL" cannot be read"#),
        ("[4294967296,4294967296,2]", 2, &header("F32", "[4294967296,4294967296,2]", "[0,8]"), None, "has not the 2"),
        ("[2]", 2, &two, None, "expected one tensor"),
        ("[2]", 2, "{", None, "header is damaged"),
    ];
    for (shape, elements, header, length, expected) in cases {
        let found = values(&written(shape, elements, header, &DATA, length));
        let reason = found.expect_err("refused");
        assert!(reason.contains(expected) && reason.contains("x.safetensors"), "{expected}: {reason}");
    }
    // A header of 512 GiB, of which the file has every byte.
    let directory = written("[2]", 2, &good, &DATA, None);
    let path = directory.path("x.safetensors");
    fs::write(&path, (1u64 << 39).to_le_bytes()).expect("written");
    fs::OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
    assert!(values(&directory).expect_err("refused").contains("header of at most"));
    fs::write(&path, [0; 7]).expect("written");
    assert!(values(&directory).expect_err("refused").contains("found 7 bytes"));
}

#[test]
fn every_type_is_read_as_it_was_captured() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let x = tensor(&noise(1, 60)).reshape((3, 20)).expect("a shape");
    let types = [
        DType::U8,
        DType::U32,
        DType::I16,
        DType::I32,
        DType::I64,
        DType::BF16,
        DType::F16,
        DType::F32,
        DType::F64,
        DType::F8E4M3,
    ];
    let tensors: Vec<Tensor> =
        types.iter().map(|dtype| (&x * 9.0).and_then(|x| x.abs()?.to_dtype(*dtype)).expect("converted")).collect();
    let empty = Tensor::zeros((0, 4), DType::F32, &Device::Cpu).expect("a tensor");
    let session =
        bitnet_trace::TraceSession::builder().dir(directory.path()).capture("values").start().expect("a session");
    session.in_scope(|| tensors.iter().chain([&empty]).for_each(|tensor| bitnet_trace::tap("x", tensor)));
    let trace = session.finish().expect("nothing lost");
    // candle's conversion from F8E4M3 to f64 does not end.
    let bytes = |tensor: &Tensor| -> Vec<f64> {
        let tensor = if tensor.dtype() == DType::F8E4M3 { tensor.to_dtype(DType::F32) } else { Ok(tensor.clone()) };
        let tensor = tensor.and_then(|tensor| tensor.to_dtype(DType::F64)?.flatten_all());
        tensor.and_then(|tensor| tensor.to_vec1()).expect("f64")
    };
    for (record, tensor) in trace.records().iter().zip(tensors.iter().chain([&empty])) {
        let values = trace.values(record).expect("readable").expect("captured");
        let found = values.to_tensor(&Device::Cpu).expect("candle has the type");
        assert_eq!(values.to_f64(), bytes(tensor), "{:?}", tensor.dtype());
        assert_eq!((found.dtype(), found.dims()), (tensor.dtype(), tensor.dims()));
        assert_eq!(bytes(&found), bytes(tensor), "{:?}", tensor.dtype());
    }
    // From files and from memory the comparer sees the same.
    let memory =
        |factor: f64| of("values", &[("x", &(&x * factor).and_then(|x| x.to_dtype(DType::F8E4M3)).expect("scaled"))]);
    let comparison = diff(&memory(1.0), &memory(1.3), &Tolerance::default());
    assert!(comparison.first_divergence().is_some(), "{comparison}");
}

fn difference(reference: &Tensor, trace: &Tensor) -> Difference {
    let comparison = diff(&of("values", &[("x", reference)]), &of("values", &[("x", trace)]), &Tolerance::rel_l2(0.0));
    comparison.pairs[0].details.as_ref().and_then(|details| details.difference.clone()).expect("numbers")
}

#[test]
#[allow(clippy::float_cmp)]
fn numbers_of_every_type_are_exact() {
    // f64 that are one f32.
    let double = |x: f64| Tensor::new(&[x, 2.0, -0.5, 8.0], &Device::Cpu).expect("a tensor");
    let found = difference(&double(1.0), &double(1.0 + 3.0 * f64::EPSILON));
    assert_eq!((found.differing, found.bit_equal, found.max_ulp), (Some(1), Some(0.75), Some(3)));
    assert_eq!(found.max_abs, Some(3.0 * f64::EPSILON));
    // Integers that are one f64.
    let whole = |x: i64, y: i64| Tensor::new(&[x, y, 7], &Device::Cpu).expect("a tensor");
    let found = difference(&whole(i64::MAX, 5), &whole(i64::MAX - 1, 6));
    assert_eq!((found.differing, found.max_abs, found.max_ulp), (Some(2), Some(1.0), None));
    let found = difference(&whole(i64::MAX, 5), &whole(i64::MIN, 5));
    assert_eq!(found.max_abs, Some(2f64.powi(64)));
    let ids = |x: u32, y: u32| Tensor::new(&[x, y], &Device::Cpu).expect("a tensor");
    let found = difference(&ids(u32::MAX, 5), &ids(u32::MAX - 1, 6));
    assert_eq!((found.differing, found.max_abs), (Some(2), Some(1.0)));
    // Of numbers whose squares are too large or too small for f64.
    for scale in [1e200, 1e-200] {
        let values = |x: f64| Tensor::new(&[3.0 * scale, 4.0 * scale * x], &Device::Cpu).expect("a tensor");
        let found = difference(&values(1.0), &values(1.5));
        assert!((found.rel_l2.expect("known") - 0.4).abs() < 1e-12, "{found:?}");
        assert!((found.mean_abs.expect("known") / scale - 1.0).abs() < 1e-12, "{found:?}");
        assert!(found.cosine.expect("known") > 0.9, "{found:?}");
    }
}

#[test]
fn units_in_the_last_place_are_those_of_the_type_and_of_equal_sign() {
    let pair = |a: f32, b: f32, dtype| {
        let tensor = |x: f32| tensor(&[x, 1.0]).to_dtype(dtype).expect("converted");
        difference(&tensor(a), &tensor(b)).max_ulp
    };
    assert_eq!(pair(1.0, 1.0 + f32::EPSILON, DType::F32), Some(1));
    assert_eq!(pair(1.0, 1.25, DType::F8E4M3), Some(2));
    assert_eq!(pair(1.0, 1.25, DType::F16), Some(256));
    assert_eq!(pair(1.0, 1.25, DType::BF16), Some(32));
    assert_eq!(pair(1.0, 1.25, DType::F64), Some(1 << 50));
    // Across zero there is no number of steps worth telling: the other element is 0 away.
    assert_eq!(pair(1e-30, -1e-30, DType::F32), Some(0));
    let one = |x: f32| tensor(&[x]);
    assert_eq!(difference(&one(1.0), &one(-1.0)).max_ulp, None);
}

#[test]
fn means_are_over_the_elements_that_were_measured() {
    let values = |x: f32| tensor(&[f32::NAN, x, f32::NAN, 1.0]);
    let found = difference(&values(1.0), &values(2.0));
    assert_eq!((found.mean_abs, found.differing, found.max_abs), (Some(0.5), Some(1), Some(1.0)));
}

/// A reshape of a transposed tensor, which no strides describe.
#[test]
fn maps_see_files_as_candle_does() {
    let x = tensor(&noise(1, 24)).reshape((2, 3, 4)).expect("a shape");
    let expected = x.transpose(0, 1).and_then(|x| x.contiguous()?.reshape((3, 8))).expect("reshaped");
    let map = "[[map]]\nfrom = \"theirs\"\nto = \"y\"\npermute = [1, 0, 2]\n[[map]]\nfrom = \"other\"\nto = \"z\"\nreshape = [24]\n";
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |name: &str, stages: &[(&str, &Tensor)]| {
        let path = directory.path().join(name);
        let session = bitnet_trace::TraceSession::builder().dir(&path).capture("values").start().expect("a session");
        session.in_scope(|| stages.iter().for_each(|(stage, tensor)| bitnet_trace::tap(stage, tensor)));
        session.finish().expect("nothing lost");
        path
    };
    let theirs = run("theirs", &[("theirs", &x), ("other", &x)]);
    let ours =
        run("ours", &[("y", &expected.reshape((3, 2, 4)).expect("a shape")), ("z", &x.flatten_all().expect("flat"))]);
    let options = bitnet_trace::compare::DiffOptions::default().with_map(map.parse().expect("a map"));
    let comparison = bitnet_trace::compare::diff_paths(&theirs, &ours, &options, &mut |_, _| ()).expect("readable");
    assert_eq!((comparison.compared(), comparison.matches()), (2, true), "{comparison}");
    assert!(paths(&theirs, &ours).is_err() || !paths(&theirs, &ours).expect("readable").matches());
}
