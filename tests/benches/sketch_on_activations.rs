//! Measures how well the sketch estimates the error of real activations: those of the embedded model, disturbed
//! in four ways by amounts from 1e-5 to 1e-1. Prints for each way the distribution of the estimate divided by
//! the true relative L2 error. Exits with 1 if an estimate is off more often than the format promises.
//!
//! `cargo bench -p bitnet-trace-tests`

use std::io::{self, Write};
use std::process::ExitCode;

use bitnet_models::{KvCache, Transformer, tiny};
use bitnet_trace::TraceSession;
use bitnet_trace_core::digest::{Elements, TensorView, Wanted, digest};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const AMOUNTS: [f32; 5] = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1];
const KINDS: [&str; 4] = ["noise", "scale", "one channel", "one row"];
/// An estimate counts as right if it is within this share of the truth.
const WITHIN: f64 = 0.2;
/// The share of right estimates that the format promises.
const SHARE: f64 = 0.95;
const REPEATS: usize = 4;

fn main() -> Outcome<ExitCode> {
    let activations = activations()?;
    let mut random = StdRng::seed_from_u64(1);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{} activations of the embedded model, {} disturbances each",
        activations.len(),
        AMOUNTS.len() * REPEATS
    )?;
    writeln!(
        out,
        "{:<12} {:>6} {:>7} {:>7} {:>7} {:>7} {:>9}",
        "disturbance", "cases", "p2.5", "median", "p97.5", "worst", "within 20%"
    )?;
    let mut good = true;
    for kind in KINDS {
        let mut ratios = Vec::new();
        for tensor in &activations {
            for amount in AMOUNTS {
                for _ in 0..REPEATS {
                    ratios.extend(ratio(tensor, kind, amount, &mut random)?);
                }
            }
        }
        ratios.sort_by(f64::total_cmp);
        let at = |permille: usize| ratios[(ratios.len() - 1) * permille / 1000];
        let right = ratios.iter().filter(|ratio| (**ratio - 1.0).abs() <= WITHIN).count();
        #[allow(clippy::cast_precision_loss)]
        let share = right as f64 / ratios.len() as f64;
        let worst = ratios.iter().copied().max_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs())).unwrap_or(1.0);
        good &= share >= SHARE;
        writeln!(
            out,
            "{kind:<12} {:>6} {:>7.3} {:>7.3} {:>7.3} {worst:>7.3} {:>8.1}%",
            ratios.len(),
            at(25),
            at(500),
            at(975),
            share * 100.0
        )?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The tensors of every stage of a prefill and a decode step.
fn activations() -> Outcome<Vec<Matrix>> {
    let checkpoint = tiny::checkpoint()?;
    let model = Transformer::load(&checkpoint)?;
    let tokens = checkpoint.tokenizer()?.encode("12+34=4")?;
    let session = TraceSession::builder().in_memory().capture("values").start()?;
    session.in_scope(|| -> bitnet_models::Result<()> {
        let mut cache = KvCache::new(model.config());
        model.forward_full(&tokens[..6], &mut cache)?;
        model.forward_incremental(tokens[6], &mut cache)?;
        Ok(())
    })?;
    let trace = session.finish()?;
    let mut activations = Vec::new();
    for record in trace.records() {
        if let Some(values) = trace.values(record)? {
            let channels = record.shape.last().copied().unwrap_or(1);
            activations.push(Matrix { channels, values: floats(&values.to_f64()) });
        }
    }
    Ok(activations)
}

/// A tensor as a matrix `[rows, channels]`.
struct Matrix {
    channels: usize,
    values: Vec<f32>,
}

/// The estimate divided by the truth; `None` if the disturbance left the tensor almost unchanged.
fn ratio(a: &Matrix, kind: &str, amount: f32, random: &mut StdRng) -> Outcome<Option<f64>> {
    let rows = a.values.len() / a.channels;
    let (channel, row) = (random.random_range(0..a.channels), random.random_range(0..rows));
    let mean_square = a.values.iter().map(|x| x * x).sum::<f32>() / f32::from(u16::try_from(a.values.len())?);
    let noise = amount * mean_square.sqrt();
    let mut normal = || {
        // Box-Muller.
        let (u, v): (f32, f32) = (random.random(), random.random());
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    };
    let b: Vec<f32> = a
        .values
        .iter()
        .enumerate()
        .map(|(i, x)| match kind {
            "noise" => x + noise * normal(),
            "scale" => x * (1.0 + amount),
            "one channel" if i % a.channels == channel => x + noise * normal(),
            "one row" if i / a.channels == row => x + noise * normal(),
            _ => *x,
        })
        .collect();
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let error = square(&mut a.values.iter().zip(&b).map(|(a, b)| f64::from(a - b))).sqrt();
    let norm = square(&mut a.values.iter().map(|x| f64::from(*x))).sqrt();
    if error == 0.0 || error / norm < 1e-6 {
        return Ok(None); // below what the sketch resolves: about 1e-7 of the norm
    }
    let estimate = {
        let (a, b) = (sketch(&a.values)?, sketch(&b)?);
        square(&mut a.iter().zip(&b).map(|(a, b)| f64::from(*a) - f64::from(*b))).sqrt()
    };
    Ok(Some(estimate / error))
}

fn sketch(values: &[f32]) -> Outcome<[f32; 64]> {
    let shape = [values.len()];
    let found = digest(&TensorView::contiguous(Elements::F32(values), &shape)?, Wanted { sketch: true, rows: false });
    Ok(found.sketch.ok_or("a sketch was asked for")?)
}

#[allow(clippy::cast_possible_truncation)] // they were f32
fn floats(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
