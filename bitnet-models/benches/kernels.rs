//! The products of a model of the 2B4T shape, random matrices in memory: how fast each kernel multiplies each packing, and
//! what share of the machine's read bandwidth that is. `cargo bench -p bitnet-models --bench kernels [-- LAYERS]`

#[path = "../src/bin/bitnet/bench/bandwidth.rs"]
mod bandwidth;

use std::hint::black_box;
use std::time::{Duration, Instant};

use bitnet_models::kernels::{Activations, FloatMatrix, FloatType, Kernel, Packing, TernaryMatrix, awake};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Outputs and inputs of a block's linear layers.
const BLOCK: [(usize, usize); 7] =
    [(2560, 2560), (640, 2560), (640, 2560), (2560, 2560), (6912, 2560), (6912, 2560), (2560, 6912)];
/// Outputs and inputs of the head.
const HEAD: (usize, usize) = (128_256, 2560);
/// Blocks, unless the command says otherwise.
const LAYERS: usize = 30;
/// Tokens of a prompt.
const TOKENS: usize = 128;
/// Times that everything is measured; the median is shown.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let layers = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(LAYERS);
    let memory = bandwidth::Memory::new(rayon::current_num_threads())?;
    println!(
        "{} threads, {layers} blocks; share: of the bandwidth of reading memory in the same round",
        rayon::current_num_threads()
    );
    println!("{:14}{:14}{:>12}{:>8}{:>22}", "packing", "kernel", "ms a token", "share", "ms a prompt of 128");
    for packing in [Packing::I2S, Packing::Tq2_0, Packing::Tq1_0, Packing::HuggingFace] {
        let mut random = StdRng::seed_from_u64(1);
        let blocks: Vec<_> = (0..layers)
            .flat_map(|_| BLOCK)
            .map(|shape| ternary(packing, shape, &mut random))
            .collect::<Result<_, _>>()?;
        let bytes = blocks.iter().map(TernaryMatrix::bytes).sum();
        let product = |tokens: usize| {
            let x = vec![0.5; tokens * 6912];
            for matrix in &blocks {
                let activations = Activations::quantize(&x[..tokens * matrix.columns()], matrix.columns());
                black_box(matrix.product(&activations, |product, scale| product / scale));
            }
        };
        measure(&format!("{packing:?}"), bytes, &memory, &product);
    }
    for dtype in [FloatType::F16, FloatType::Bf16, FloatType::F32, FloatType::Q8_0] {
        let bytes = HEAD.0 * dtype.row_bytes(HEAD.1).unwrap_or_default();
        let head = FloatMatrix::new(dtype, HEAD.0, HEAD.1, vec![0x11; bytes].into())?;
        let product = |tokens: usize| drop(black_box(head.product(&vec![0.5; tokens * HEAD.1])));
        measure(&format!("head {dtype:?}"), bytes, &memory, &product);
    }
    Ok(())
}

/// A random matrix without the code 3 and with block scales of 1.
fn ternary(
    packing: Packing,
    (rows, columns): (usize, usize),
    random: &mut StdRng,
) -> Result<TernaryMatrix, Box<dyn std::error::Error>> {
    let mut data = vec![0; packing.bytes(rows, columns)?];
    random.fill_bytes(&mut data);
    for byte in &mut data {
        *byte &= !((*byte >> 1) & 0b0101_0101);
    }
    let block = match packing {
        Packing::Tq2_0 => 66,
        Packing::Tq1_0 => 54,
        _ => data.len(),
    };
    if block < data.len() {
        for block in data.chunks_exact_mut(block) {
            if let Some(scale) = block.last_chunk_mut() {
                *scale = half::f16::ONE.to_le_bytes();
            }
        }
    }
    Ok(TernaryMatrix::new(packing, rows, columns, data.into())?)
}

fn measure(name: &str, bytes: usize, memory: &bandwidth::Memory, product: &(impl Fn(usize) + Sync)) {
    for kernel in Kernel::supported() {
        let time = |tokens| {
            let begin = Instant::now();
            awake(|| kernel.in_scope(|| product(tokens)));
            begin.elapsed()
        };
        let (mut tokens, mut shares) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let read = memory.read();
            let token = time(1);
            #[allow(clippy::cast_precision_loss)] // sizes of memory
            shares.push(bytes as f64 / bandwidth::BYTES as f64 * read.as_secs_f64() / token.as_secs_f64());
            tokens.push(token);
        }
        // The portable kernel would take minutes.
        let prompt = (kernel != Kernel::Portable).then(|| milliseconds(median(vec![time(TOKENS), time(TOKENS)])));
        shares.sort_by(f64::total_cmp);
        println!(
            "{name:14}{:14}{:>12}{:8.2}{:>22}",
            kernel.name(),
            milliseconds(median(tokens)),
            shares[ROUNDS / 2],
            prompt.unwrap_or_else(|| "-".to_owned())
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn milliseconds(time: Duration) -> String {
    format!("{:.2}", 1e3 * time.as_secs_f64())
}
