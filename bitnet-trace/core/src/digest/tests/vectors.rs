//! Tests every kernel with the vectors of `vectors/make_vectors.py`, which describes their format.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::reference::{Expected, found};
use super::{Layout, Storage};
use crate::digest::Kernel;
use crate::digest::sketch::splitmix64;

#[derive(Deserialize)]
struct Case {
    name: String,
    dtype: String,
    storage: CaseStorage,
    shape: Vec<usize>,
    strides: Option<Vec<usize>>,
    #[serde(default)]
    offset: usize,
    expected: Answer,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum CaseStorage {
    Listed { hex: Vec<String> },
    Generated { generator: String, seed: u64, count: u64 },
}

#[derive(Deserialize)]
struct Answer {
    blake3: String,
    raw_blake3: Option<String>,
    rms: Option<String>,
    mean: Option<String>,
    min: Option<String>,
    max: Option<String>,
    nan_count: usize,
    inf_count: usize,
    zero_count: usize,
    sketch: String,
    rows: Option<Vec<String>>,
}

#[test]
fn vectors() {
    let text = include_str!("../../../vectors/vectors.json");
    let cases: Vec<Case> = serde_json::from_str(text).expect("the format of the script");
    assert!(cases.len() > 60, "{}", cases.len());
    for case in cases {
        let storage = storage(&case);
        let layout = match &case.strides {
            Some(strides) => Layout { offset: case.offset, shape: case.shape.clone(), strides: strides.clone() },
            None => Layout::contiguous(&case.shape),
        };
        for kernel in Kernel::available() {
            let mut found = found(kernel, &storage, &layout);
            let expected = expected(&case.expected, &mut found);
            assert_eq!(found, expected, "{} {kernel:?}", case.name);
        }
    }
}

/// The expected digest. Rows that the vector leaves out are copied from the digest that was computed.
fn expected(answer: &Answer, found: &mut Expected) -> Expected {
    let number = |text: &Option<String>| text.as_ref().map(|text| pattern(text));
    Expected {
        blake3: answer.blake3.clone(),
        raw_blake3: answer.raw_blake3.clone(),
        rms: number(&answer.rms),
        mean: number(&answer.mean),
        min: number(&answer.min),
        max: number(&answer.max),
        counts: [answer.nan_count, answer.inf_count, answer.zero_count],
        sketch: STANDARD
            .decode(&answer.sketch)
            .expect("base64")
            .chunks(4)
            .map(|bytes| u32::from_le_bytes(bytes.try_into().expect("four")))
            .collect(),
        rows: answer.rows.clone().unwrap_or_else(|| found.rows.clone()),
    }
}

fn storage(case: &Case) -> Storage {
    let bits: Vec<u64> = match &case.storage {
        CaseStorage::Listed { hex } => hex.iter().map(|text| pattern(text)).collect(),
        CaseStorage::Generated { generator, seed, count } => {
            (0..*count).map(|index| generated(generator, &case.dtype, splitmix64((seed << 32) + index))).collect()
        }
    };
    // The format truncates to the width of the type.
    macro_rules! of {
        ($variant:ident, $bits:ty, $convert:expr) => {
            Storage::$variant(bits.iter().map(|&bits| $convert(bits as $bits)).collect())
        };
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
    match case.dtype.as_str() {
        "F64" => of!(F64, u64, f64::from_bits),
        "F32" => of!(F32, u32, f32::from_bits),
        "F16" => of!(F16, u16, u16::from),
        "BF16" => of!(BF16, u16, u16::from),
        "F8E4M3" => of!(F8E4M3, u8, u8::from),
        "F8E5M2" => of!(F8E5M2, u8, u8::from),
        "U8" => of!(U8, u8, u8::from),
        "U32" => of!(U32, u32, u32::from),
        "I16" => of!(I16, i16, i16::from),
        "I32" => of!(I32, i32, i32::from),
        "I64" => of!(I64, i64, i64::from),
        other => panic!("{other}"),
    }
}

fn pattern(text: &str) -> u64 {
    u64::from_str_radix(text, 16).expect("hex digits")
}

#[allow(clippy::cast_precision_loss)] // 24 bits
fn generated(generator: &str, dtype: &str, x: u64) -> u64 {
    let unit = (x >> 40) as f32 / 16_777_216.0 * 2.0 - 1.0;
    let value = match (generator, dtype) {
        ("bits", _) => return x,
        ("finite", "F64") => return x & !(1 << 62),
        ("finite", "F32") => return x & !(1 << 30),
        ("wide", "F32") if x.is_multiple_of(71) => -0.0,
        ("wide", "F32") if x.is_multiple_of(67) => 0.0,
        ("wide", "F32") if x.is_multiple_of(61) => unit * 50.0,
        ("unit" | "wide", "F32") => unit,
        other => panic!("{other:?}"),
    };
    u64::from(value.to_bits())
}
