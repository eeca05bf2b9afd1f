//! Measures a digest as a multiple of `blake3::hash` of the same f32 bytes.
//!
//! `cargo bench -p bitnet-trace-core --bench digest`. Both sides run in turns within one process, and the
//! median of their thread CPU times is compared: other programs and the processor's clock move the times,
//! hardly the ratios.
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // any numbers will do

mod clock;

use std::hint::black_box;

use bitnet_trace_core::digest::{Elements, Kernel, TensorView, Wanted, digest_with};
use half::{bf16, f16};

use crate::clock::thread_seconds;

/// How many turns a side gets.
const ROUNDS: usize = 41;

/// How many elements a side reads in one turn at least, so that the time for reading the clock does not matter.
const TURN: usize = 1 << 19;

const PLAIN: Wanted = Wanted { sketch: false, rows: false };
const SKETCH: Wanted = Wanted { sketch: true, rows: false };
const ROWS: Wanted = Wanted { sketch: false, rows: true };

fn main() {
    let best = Kernel::best();
    println!("kernel {best:?}; thread CPU time of a call; ratios to blake3::hash\n");
    println!("{:<28} {:>10} {:>8} {:>8} {:>8} {:>8}", "tensor", "blake3 us", "hash", "+stats", "+sketch", "+rows");
    for shape in [[1, 2560], [1, 6912], [1, 128_256], [128, 2560], [2048, 2560]] {
        let values = random(shape.iter().product());
        for storage in [Storage::F32(values.clone()), Storage::bf16(&values), Storage::f16(&values)] {
            row(&format!("{}x{} {}", shape[0], shape[1], storage.name()), &values, &storage, shape, best);
        }
    }
    let (shape, values) = ([128, 2560], random(128 * 2560));
    for storage in [
        Storage::F64(values.iter().map(|value| f64::from(*value)).collect()),
        Storage::I64(values.iter().map(|value| (*value * 1000.0) as i64).collect()),
        Storage::U32(values.iter().map(|value| (*value * 1000.0) as u32).collect()),
        Storage::U8(values.iter().map(|value| (*value * 10.0) as u8).collect()),
        Storage::F8E4M3(values.iter().map(|value| value.to_bits().to_be_bytes()[1]).collect()),
    ] {
        row(&format!("128x2560 {}", storage.name()), &storage.widened(), &storage, shape, best);
    }

    println!("\nother kernels");
    for kernel in Kernel::available().filter(|kernel| *kernel != best) {
        for storage in [Storage::F32(values.clone()), Storage::bf16(&values), Storage::f16(&values)] {
            row(&format!("128x2560 {} {kernel:?}", storage.name()), &values, &storage, shape, kernel);
        }
    }

    println!("\n{:<28} {:>13}", "strided, with sketch", "x contiguous");
    let wide = random(2048 * 2560);
    let halves = Storage::bf16(&wide);
    let wide = Storage::F32(wide);
    for (label, storage, offset, shape, strides) in [
        ("columns of 128x5120", &wide, 1280, &[128, 2560][..], &[5120, 1][..]),
        ("heads, runs of 128", &wide, 0, &[20, 128, 128], &[128, 2560, 1]),
        ("row repeated", &wide, 0, &[128, 2560], &[0, 1]),
        ("column repeated", &wide, 0, &[128, 2560], &[1, 0]),
        ("bf16 columns", &halves, 1280, &[128, 2560], &[5120, 1]),
        ("transposed 2560x128", &wide, 0, &[128, 2560], &[1, 128]),
        ("transposed 2560x2048", &wide, 0, &[2048, 2560], &[1, 2048]),
    ] {
        let elements = storage.elements();
        let strided = TensorView::strided(elements, offset, shape, strides).expect("inside");
        let contiguous = TensorView::contiguous(elements, shape).expect("inside");
        let [base, time] =
            medians(strided.count(), [&mut || read(best, &contiguous, SKETCH), &mut || read(best, &strided, SKETCH)]);
        println!("{label:<28} {:>13.3}", time / base);
    }
}

enum Storage {
    F32(Vec<f32>),
    BF16(Vec<u16>),
    F16(Vec<u16>),
    F64(Vec<f64>),
    I64(Vec<i64>),
    U32(Vec<u32>),
    U8(Vec<u8>),
    F8E4M3(Vec<u8>),
}

impl Storage {
    fn bf16(values: &[f32]) -> Self {
        Self::BF16(values.iter().map(|value| bf16::from_f32(*value).to_bits()).collect())
    }

    fn f16(values: &[f32]) -> Self {
        Self::F16(values.iter().map(|value| f16::from_f32(*value).to_bits()).collect())
    }

    fn elements(&self) -> Elements<'_> {
        match self {
            Self::F32(data) => Elements::F32(data),
            Self::BF16(data) => Elements::BF16(data),
            Self::F16(data) => Elements::F16(data),
            Self::F64(data) => Elements::F64(data),
            Self::I64(data) => Elements::I64(data),
            Self::U32(data) => Elements::U32(data),
            Self::U8(data) => Elements::U8(data),
            Self::F8E4M3(data) => Elements::F8E4M3(data),
        }
    }

    fn name(&self) -> &'static str {
        self.elements().dtype().name()
    }

    /// As many f32 as there are elements: what is hashed of them does not change how long it takes.
    fn widened(&self) -> Vec<f32> {
        vec![1.0; self.elements().len()]
    }
}

/// Normally distributed, like activations: Box and Muller on splitmix64.
fn random(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut uniform = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((x ^ (x >> 31)) >> 40) + 1) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f32::consts::TAU * uniform()).cos()).collect()
}

fn row(label: &str, values: &[f32], storage: &Storage, shape: [usize; 2], kernel: Kernel) {
    let bytes: &[u8] = bytemuck::cast_slice(values);
    let view = TensorView::contiguous(storage.elements(), &shape).expect("as many elements");
    let [hash, plain, sketch, rows] = medians(
        values.len(),
        [
            &mut || _ = black_box(blake3::hash(black_box(bytes))),
            &mut || read(kernel, &view, PLAIN),
            &mut || read(kernel, &view, SKETCH),
            &mut || read(kernel, &view, ROWS),
        ],
    );
    print!("{label:<28} {:>10.2} {:>8.3}", hash * 1e6, 1.0);
    for time in [plain, sketch, rows] {
        print!(" {:>8.3}", time / hash);
    }
    println!();
}

fn read(kernel: Kernel, view: &TensorView<'_>, wanted: Wanted) {
    let _ = black_box(digest_with(kernel, black_box(view), wanted));
}

/// Median seconds of a call of each side.
fn medians<const N: usize>(elements: usize, sides: [&mut dyn FnMut(); N]) -> [f64; N] {
    clock::medians(ROUNDS, (TURN / elements).max(1), thread_seconds, sides)
}
