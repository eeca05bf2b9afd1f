//! What a fingerprint costs, as a multiple of `blake3::hash` of the same f32 bytes.
//!
//! Both sides run in turns within one process, and the median of their thread CPU times is
//! compared: other programs and the processor's clock move the times, hardly the ratios.

mod clock;

use std::hint::black_box;

use bitnet_trace::private::{Kernel, Wanted, fingerprint_with};
use candle_core::{DType, Device, Result, Tensor};

use crate::clock::thread_seconds;

/// Turns a side gets.
const ROUNDS: usize = 41;

/// Elements a side reads in one turn, at least: the clock takes its time too.
const TURN: usize = 1 << 19;

const PLAIN: Wanted = Wanted { sketch: false, rows: false };
const SKETCH: Wanted = Wanted { sketch: true, rows: false };
const ROWS: Wanted = Wanted { sketch: false, rows: true };

fn main() -> Result<()> {
    let best = Kernel::best();
    println!("kernel {best:?}; times are the thread's, a call; ratios to blake3::hash\n");
    println!("{:<28} {:>10} {:>8} {:>8} {:>8} {:>8}", "tensor", "blake3 us", "hash", "+stats", "+sketch", "+rows");
    for shape in [(1, 2560), (1, 6912), (1, 128_256), (128, 2560), (2048, 2560)] {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let tensor = random(shape)?.to_dtype(dtype)?;
            let label = format!("{}x{} {dtype:?}", shape.0, shape.1);
            row(&label, &tensor, best)?;
        }
    }
    for dtype in [DType::F64, DType::I64, DType::U32, DType::U8, DType::F8E4M3] {
        row(&format!("128x2560 {dtype:?}"), &random((128, 2560))?.to_dtype(dtype)?, best)?;
    }

    println!("\nother kernels");
    for kernel in Kernel::available().filter(|kernel| *kernel != best) {
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            row(&format!("128x2560 {dtype:?} {kernel:?}"), &random((128, 2560))?.to_dtype(dtype)?, kernel)?;
        }
    }

    println!("\n{:<28} {:>13}", "strided, with sketch", "x contiguous");
    for (label, tensor) in strided()? {
        let contiguous = tensor.copy()?.force_contiguous()?;
        let [base, time] = medians(
            tensor.elem_count(),
            [&mut || read(best, &contiguous, SKETCH), &mut || read(best, &tensor, SKETCH)],
        );
        println!("{label:<28} {:>13.3}", time / base);
    }
    Ok(())
}

/// Normally distributed, like activations.
fn random(shape: (usize, usize)) -> Result<Tensor> {
    Tensor::randn(0f32, 1.0, shape, &Device::Cpu)
}

fn strided() -> Result<Vec<(&'static str, Tensor)>> {
    let wide = random((128, 5120))?;
    Ok(vec![
        ("columns of 128x5120", wide.narrow(1, 1280, 2560)?),
        ("heads, runs of 128", random((128, 2560))?.reshape((1, 128, 20, 128))?.transpose(1, 2)?),
        ("row repeated", random((1, 2560))?.broadcast_as((128, 2560))?),
        ("column repeated", random((128, 1))?.broadcast_as((128, 2560))?),
        ("bf16 columns", wide.to_dtype(DType::BF16)?.narrow(1, 1280, 2560)?),
        ("transposed 2560x128", random((2560, 128))?.t()?),
        ("transposed 2560x2048", random((2560, 2048))?.t()?),
    ])
}

fn row(label: &str, tensor: &Tensor, kernel: Kernel) -> Result<()> {
    let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let bytes: &[u8] = bytemuck::cast_slice(&values);
    let [hash, plain, sketch, rows] = medians(
        tensor.elem_count(),
        [
            &mut || _ = black_box(blake3::hash(black_box(bytes))),
            &mut || read(kernel, tensor, PLAIN),
            &mut || read(kernel, tensor, SKETCH),
            &mut || read(kernel, tensor, ROWS),
        ],
    );
    print!("{label:<28} {:>10.2} {:>8.3}", hash * 1e6, 1.0);
    for time in [plain, sketch, rows] {
        print!(" {:>8.3}", time / hash);
    }
    println!();
    Ok(())
}

fn read(kernel: Kernel, tensor: &Tensor, wanted: Wanted) {
    let _ = black_box(fingerprint_with(kernel, black_box(tensor), wanted));
}

/// Median seconds of a call of each side.
fn medians<const N: usize>(elements: usize, sides: [&mut dyn FnMut(); N]) -> [f64; N] {
    clock::medians(ROUNDS, (TURN / elements).max(1), thread_seconds, sides)
}
