//! Every kernel against sums in plain integers and floats, on shapes with and without tails.
#![allow(clippy::float_cmp)] // bit for bit

mod float;

use std::fmt::Debug;

use bytes::Bytes;
use half::f16;
use proptest::prelude::*;

use self::float::{floats, stored};
use super::packing::{BLOCK, TQ1_BYTES, TQ2_BYTES};
use super::{Activations, FloatMatrix, FloatType, Kernel, Level, Packing, PackingError, TernaryMatrix};

const PACKINGS: [Packing; 4] = [Packing::I2S, Packing::Tq2_0, Packing::Tq1_0, Packing::HuggingFace];

/// Packs values -1, 0, +1 by the text of each layout's description, value by value.
fn pack(packing: Packing, rows: usize, columns: usize, values: &[i8], scales: &[f32]) -> Bytes {
    let code = |row: usize, column: usize| (values[row * columns + column] + 1).cast_unsigned();
    let mut data = vec![0u8; packing.bytes(rows, columns).expect("a shape of the layout")];
    let row_bytes = data.len() / rows;
    for row in 0..rows {
        for column in 0..columns {
            let (block, j) = (column / BLOCK, column % BLOCK);
            match packing {
                Packing::I2S => {
                    let (block, j) = (column / 128, column % 128);
                    data[row * row_bytes + block * 32 + j % 32] |= code(row, column) << (6 - 2 * (j / 32));
                }
                Packing::HuggingFace => {
                    let quarter = rows / 4;
                    data[row % quarter * columns + column] |= code(row, column) << (2 * (row / quarter));
                }
                Packing::Tq2_0 => {
                    let byte = 32 * (j / 128) + j % 32;
                    data[row * row_bytes + block * TQ2_BYTES + byte] |= code(row, column) << (2 * (j % 128 / 32));
                }
                // Below.
                Packing::Tq1_0 => {}
            }
        }
        for block in 0..columns / BLOCK {
            let scale = f16::from_f32(scales[(row * columns / BLOCK + block) % scales.len()]).to_le_bytes();
            let at = |bytes: usize| row * row_bytes + (block + 1) * bytes - 2;
            match packing {
                Packing::Tq2_0 => data[at(TQ2_BYTES)..][..2].copy_from_slice(&scale),
                Packing::Tq1_0 => {
                    data[at(TQ1_BYTES)..][..2].copy_from_slice(&scale);
                    let value = |j: usize| u32::from(code(row, block * BLOCK + j));
                    let to = &mut data[row * row_bytes + block * TQ1_BYTES..][..TQ1_BYTES];
                    for (byte, to) in to.iter_mut().enumerate().take(52) {
                        let trits: Vec<u32> = match byte {
                            0..32 => (0..5).map(|n| value(byte + 32 * n)).collect(),
                            32..48 => (0..5).map(|n| value(160 + byte - 32 + 16 * n)).collect(),
                            _ => (0..4).map(|m| value(240 + byte - 48 + 4 * m)).chain([0]).collect(),
                        };
                        let number = trits.iter().fold(0, |number, trit| 3 * number + trit);
                        *to = u8::try_from((number * 256).div_ceil(243)).expect("a byte");
                    }
                }
                Packing::I2S | Packing::HuggingFace => {}
            }
        }
    }
    data.into()
}

/// `[tokens, rows]` of exact sums.
fn expected(rows: usize, columns: usize, values: &[i8], activations: &[i8]) -> Vec<i64> {
    let dot = |row: &[i8], token: &[i8]| row.iter().zip(token).map(|(w, a)| i64::from(*w) * i64::from(*a)).sum();
    let tokens = activations.chunks(columns);
    tokens.flat_map(|token| values.chunks(columns).take(rows).map(move |row| dot(row, token))).collect()
}

/// Activations with these int8 values and scales of 1.
fn activations(values: &[i8], columns: usize) -> Activations {
    let tokens = values.len() / columns;
    let mut all = Activations::quantize(&vec![0.0; values.len()], columns);
    for (token, values) in values.chunks(columns).enumerate() {
        all.values[token * all.stride..][..columns].copy_from_slice(values);
        all.sums[token] = values.iter().map(|q| i32::from(*q)).sum();
    }
    all.scales = vec![1.0; tokens];
    all
}

fn levels() -> Vec<Level> {
    Kernel::supported().filter_map(Level::new).collect()
}

/// Numbers that look random and are the same in every run.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn ternary(count: usize, seed: u64) -> Vec<i8> {
    let mut next = random(seed);
    (0..count).map(|_| i8::try_from(next() % 3).expect("small") - 1).collect()
}

fn int8(count: usize, seed: u64) -> Vec<i8> {
    let mut next = random(seed);
    (0..count).map(|_| next().to_le_bytes()[3].cast_signed()).collect()
}

fn check(matrix: &TernaryMatrix, values: &[i8], a: &[i8], what: &dyn Debug) {
    let (rows, columns) = (matrix.rows(), matrix.columns());
    assert!(matrix.values() == values, "{what:?}: other values come out than went in");
    let expected = expected(rows, columns, values, a);
    for level in levels() {
        let out = level.in_scope(|| matrix.product(&activations(a, columns), |product, _| product));
        #[allow(clippy::cast_precision_loss)] // below 2^24 in these tests
        let same = out.iter().zip(&expected).all(|(out, expected)| *out == *expected as f32);
        assert!(same && out.len() == expected.len(), "{what:?} {}", level.kernel());
    }
}

#[test]
fn every_kernel_multiplies_every_packing() {
    for packing in PACKINGS {
        for (rows, columns) in [(4, 256), (4, 2560), (8, 512), (20, 256), (268, 768), (12, 6912), (1, 1280), (7, 256)] {
            for tokens in [1, 2, 3, 4, 5, 9] {
                if packing == Packing::HuggingFace && rows % 4 != 0 {
                    continue;
                }
                let (values, a) = (ternary(rows * columns, 1), int8(tokens * columns, 2));
                let data = pack(packing, rows, columns, &values, &[1.0]);
                let matrix = TernaryMatrix::new(packing, rows, columns, data).expect("a matrix");
                check(&matrix, &values, &a, &(packing, rows, columns, tokens));
            }
        }
    }
}

#[test]
fn rows_of_any_length_where_the_layout_has_them() {
    for (rows, columns) in [(4, 1), (4, 31), (8, 64), (40, 160), (4, 63), (12, 65), (4, 127), (4, 129), (8, 1000)] {
        for tokens in [1, 3] {
            let (values, a) = (ternary(rows * columns, 3), int8(tokens * columns, 4));
            let data = pack(Packing::HuggingFace, rows, columns, &values, &[1.0]);
            let matrix = TernaryMatrix::new(Packing::HuggingFace, rows, columns, data).expect("a matrix");
            check(&matrix, &values, &a, &(rows, columns, tokens));
            let own = TernaryMatrix::from_values(rows - 1, columns, &values[..(rows - 1) * columns]);
            check(&own, &values[..(rows - 1) * columns], &a, &("own", rows - 1, columns, tokens));
        }
    }
    for columns in [128, 384, 6912 - 128] {
        let (values, a) = (ternary(5 * columns, 5), int8(columns, 6));
        let data = pack(Packing::I2S, 5, columns, &values, &[1.0]);
        check(&TernaryMatrix::new(Packing::I2S, 5, columns, data).expect("a matrix"), &values, &a, &columns);
    }
}

/// The sums of extremes are the largest there are: none may leave its integer.
#[test]
fn extremes_do_not_overflow() {
    for packing in PACKINGS {
        for columns in [256, 16384, 1 << 17] {
            for (value, activation) in [(1, 127), (1, -128), (-1, -128), (-1, 127), (0, -128)] {
                let (rows, tokens) = (4, 2);
                let values = vec![value; rows * columns];
                let data = pack(packing, rows, columns, &values, &[1.0]);
                let matrix = TernaryMatrix::new(packing, rows, columns, data).expect("a matrix");
                for tokens in [1, tokens] {
                    check(
                        &matrix,
                        &values,
                        &vec![activation; tokens * columns],
                        &(packing, columns, value, activation),
                    );
                }
            }
        }
    }
    // Wider than an i32 has room for.
    let columns = (1 << 20) + 3;
    let matrix = TernaryMatrix::from_values(1, columns, &vec![1; columns]);
    let sum = -128.0 * f32::from(3u8) - 134_217_728.0;
    assert_eq!(matrix.product(&activations(&vec![-128; columns], columns), |product, _| product), [sum]);
}

/// llama.cpp reads any byte of `TQ1_0` as five trits, so we do: also bytes that no encoder writes.
#[test]
fn every_byte_in_base_3_is_read_alike() {
    let mut data: Vec<u8> = (0..=255).cycle().take(5 * TQ1_BYTES).collect();
    for block in data.chunks_mut(TQ1_BYTES) {
        block[52..].copy_from_slice(&f16::ONE.to_le_bytes());
    }
    let matrix = TernaryMatrix::new(Packing::Tq1_0, 5, BLOCK, data.clone().into()).expect("a matrix");
    let values = matrix.values();
    // `dequantize_row_tq1_0` in ggml-quants.c.
    for (byte, power, value) in [(0, 1, 0), (0, 3, 32), (31, 81, 159), (47, 81, 239), (50, 27, 254)] {
        let q = data[byte].wrapping_mul(power);
        assert_eq!(i32::from(values[value]), i32::from((u16::from(q) * 3) >> 8) - 1, "byte {byte} times {power}");
    }
    check(&matrix, &values, &int8(BLOCK, 7), &"any bytes");
}

#[test]
fn one_scale_is_left_to_the_caller_and_several_are_multiplied_block_by_block() {
    for packing in [Packing::Tq2_0, Packing::Tq1_0] {
        let (rows, columns) = (3, 768);
        let mut values = ternary(rows * columns, 8);
        // A block of zeros may have any scale.
        values[..BLOCK].fill(0);
        let mut scales = vec![0.5; 9];
        scales[0] = 0.0;
        let same =
            TernaryMatrix::new(packing, rows, columns, pack(packing, rows, columns, &values, &scales)).expect("same");
        assert_eq!(same.scale(), 0.5);
        scales[4] = -2.0;
        let other =
            TernaryMatrix::new(packing, rows, columns, pack(packing, rows, columns, &values, &scales)).expect("other");
        assert_eq!(other.scale(), 1.0);
        let a = int8(2 * columns, 9);
        let mut sums = Vec::new();
        for token in a.chunks(columns) {
            for (row, values) in values.chunks(columns).enumerate() {
                let mut sum = 0.0;
                for (block, (w, a)) in values.chunks(BLOCK).zip(token.chunks(BLOCK)).enumerate() {
                    let dot: i32 = w.iter().zip(a).map(|(w, a)| i32::from(*w) * i32::from(*a)).sum();
                    sum += f32::from(i16::try_from(dot).expect("small")) * scales[row * 3 + block];
                }
                sums.push(sum);
            }
        }
        for level in levels() {
            let product = |a: &[i8]| level.in_scope(|| other.product(&activations(a, columns), |product, _| product));
            assert_eq!(product(&a), sums, "{packing:?}");
            assert_eq!(product(&a[..columns]), sums[..rows], "{packing:?}, one token");
        }
    }
}

#[test]
fn what_is_not_a_matrix_is_refused() {
    let new = |packing, rows, columns, data: Vec<u8>| TernaryMatrix::new(packing, rows, columns, data.into()).map(drop);
    assert_eq!(new(Packing::I2S, 2, 128, vec![0; 63]), Err(PackingError::Length { expected: 64, found: 63 }));
    let multiple = |what, multiple, found| Err(PackingError::Multiple { what, multiple, found });
    assert_eq!(new(Packing::I2S, 1, 64, vec![0; 16]), multiple("a number of inputs", 128, 64));
    assert_eq!(new(Packing::Tq2_0, 1, 128, vec![0; 33]), multiple("a number of inputs", 256, 128));
    assert_eq!(new(Packing::Tq1_0, 1, 255, vec![0; 54]), multiple("a number of inputs", 256, 255));
    assert_eq!(new(Packing::HuggingFace, 6, 2, vec![0; 3]), multiple("a number of outputs", 4, 6));
    for (rows, columns) in [(0, 256), (4, 0), (4, 1 << 40), (usize::MAX - 3, 256)] {
        for packing in PACKINGS {
            let refused = new(packing, rows, columns, Vec::new());
            assert!(matches!(refused, Err(PackingError::Shape { .. })), "{packing:?} {rows} {columns} {refused:?}");
        }
    }
    let mut data = vec![0; 4 << 20];
    data[3_000_000] = 0b1100;
    data[3_500_000] = 0b11;
    assert_eq!(new(Packing::I2S, 1 << 15, 512, data.clone()), Err(PackingError::Code { byte: 3_000_000 }));
    assert_eq!(new(Packing::HuggingFace, 1 << 14, 1 << 10, data), Err(PackingError::Code { byte: 3_000_000 }));
    let mut data = vec![0; 2 * TQ2_BYTES];
    data[TQ2_BYTES + 1] = 0xff;
    assert_eq!(new(Packing::Tq2_0, 1, 512, data.clone()), Err(PackingError::Code { byte: TQ2_BYTES + 1 }));
    data[2 * TQ2_BYTES - 2..].copy_from_slice(&f16::INFINITY.to_le_bytes());
    assert_eq!(new(Packing::Tq2_0, 1, 512, data), Err(PackingError::Scale { block: 1, value: f32::INFINITY }));
    let mut data = vec![0; 54];
    data[52..].copy_from_slice(&f16::NEG_INFINITY.to_le_bytes());
    assert_eq!(new(Packing::Tq1_0, 1, 256, data), Err(PackingError::Scale { block: 0, value: f32::NEG_INFINITY }));
    let float = |dtype, rows, columns, bytes| FloatMatrix::new(dtype, rows, columns, vec![0; bytes].into()).map(drop);
    assert_eq!(float(FloatType::F16, 2, 3, 13), Err(PackingError::Length { expected: 12, found: 13 }));
    assert_eq!(float(FloatType::Q8_0, 2, 33, 70), multiple("a number of inputs", 32, 33));
    assert_eq!(float(FloatType::F32, 0, 3, 0), Err(PackingError::Shape { rows: 0, columns: 3 }));
    assert_eq!(
        float(FloatType::F32, 1 << 40, 1 << 40, 0),
        Err(PackingError::Shape { rows: 1 << 40, columns: 1 << 40 })
    );
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    let (rows, columns) = (1000, 2560);
    let values = ternary(rows * columns, 14);
    let ternary = TernaryMatrix::from_values(rows, columns, &values);
    let float = FloatMatrix::new(FloatType::F16, rows, columns, stored(FloatType::F16, &floats(rows * columns, 15)));
    let (float, x) = (float.expect("a matrix"), floats(7 * columns, 16));
    let run = |threads, tokens: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let x = &x[..tokens * columns];
        pool.install(|| {
            super::awake(|| {
                let a = Activations::quantize(x, columns);
                (ternary.product(&a, |product, scale| product / scale), float.product(x))
            })
        })
    };
    for tokens in [1, 7] {
        assert_eq!(run(1, tokens), run(2, tokens));
        assert_eq!(run(1, tokens), run(5, tokens));
    }
    // Each token as if it were alone.
    let (together, (first, _)) = (run(2, 7), run(2, 1));
    assert_eq!(together.0[..rows], first);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_matrix_times_any_activations(
        rows in 1usize..40, columns in 1usize..700, tokens in 1usize..7, seed: u64, packing in 0usize..5
    ) {
        let (rows, columns) = match packing {
            0 => (rows, columns.next_multiple_of(128)),
            1 | 2 => (rows, columns.next_multiple_of(256)),
            3 => (rows.next_multiple_of(4), columns),
            _ => (rows, columns),
        };
        let (values, a) = (ternary(rows * columns, seed), int8(tokens * columns, seed ^ 1));
        let matrix = match PACKINGS.get(packing) {
            Some(packing) => {
                let data = pack(*packing, rows, columns, &values, &[1.0]);
                TernaryMatrix::new(*packing, rows, columns, data).expect("a matrix")
            }
            None => TernaryMatrix::from_values(rows, columns, &values),
        };
        check(&matrix, &values, &a, &(packing, rows, columns, tokens));
    }

    /// Bytes from outside give a matrix or an error.
    #[test]
    fn any_bytes(packing in 0usize..4, rows in 0usize..20, blocks in 0usize..4, bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let packing = PACKINGS[packing];
        let mut bytes = bytes;
        if let Ok(length) = packing.bytes(rows, blocks * 256) {
            bytes.resize(length, 0b0110);
        }
        if let Ok(matrix) = TernaryMatrix::new(packing, rows, blocks * 256, bytes.into()) {
            prop_assert!(matrix.values().iter().all(|value| (-1..=1).contains(value)));
        }
    }
}

#[test]
fn kernels_are_named_and_found_by_name() {
    for kernel in Kernel::ALL {
        assert_eq!(kernel.name().parse(), Ok(kernel));
    }
    assert!("sse".parse::<Kernel>().is_err_and(|message| message.contains("portable, avx2, avx512-vnni")));
    assert!(Kernel::Portable.is_supported() && Kernel::supported().any(|kernel| kernel == Kernel::best()));
    let portable = Level::new(Kernel::Portable).expect("everywhere");
    assert_eq!(portable.in_scope(Level::current), portable);
    assert_eq!(Level::current(), Level::best());
}
