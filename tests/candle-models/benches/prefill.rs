//! What recording costs a real model: the prefill of SmolLM2-135M with every local recorded, against the same code with
//! tracing unset. Each traced run is followed by an untraced one, and the median of the ratios of such pairs counts.
//!
//! `SMOLLM2_GGUF` names the file; `SMOLLM2_ROUNDS` the number of pairs. With candle's `CANDLE_DEQUANTIZE_ALL=1` the weights
//! are f32, and the model is several times as fast.

use std::fs::File;
use std::process::ExitCode;
use std::time::Instant;

use bitnet_trace::TraceSession;
use bitnet_trace_candle_models::{by_hand, models};
use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Tensor};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The number of tokens of the prompts.
const PROMPTS: [u32; 2] = [5, 128];

/// The number of pairs, unless `SMOLLM2_ROUNDS` names another.
const ROUNDS: usize = 15;

/// The largest ratio that is accepted of four added lines.
const MOST: f64 = 1.15;

fn main() -> Result<ExitCode> {
    if std::env::var_os("BITNET_TRACE_DIR").is_some() {
        return Err("unset BITNET_TRACE_DIR: half of the runs are not recorded".into());
    }
    let file = std::env::var_os("SMOLLM2_GGUF")
        .ok_or("set SMOLLM2_GGUF to the GGUF file of SmolLM2-135M, which is in the wheel that .ci/smollm2.txt names")?;
    let rounds = match std::env::var("SMOLLM2_ROUNDS") {
        Ok(rounds) => rounds.parse().map_err(|_| format!("SMOLLM2_ROUNDS is `{rounds}`, expected a number"))?,
        Err(_) => ROUNDS,
    };
    let open = || -> Result<(Content, File)> {
        let mut file = File::open(&file)?;
        Ok((Content::read(&mut file)?, file))
    };
    println!("{:<22} {:>7} {:>8} {:>10} {:>10} {:>7} {:>9}", "", "tokens", "records", "MB", "unset ms", "ms", "ratio");
    let (content, mut reader) = open()?;
    let mut model = by_hand::quantized_llama::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    let four_lines = measure("four lines", rounds, &mut |tokens| model.forward(tokens, 0))?;
    let (content, mut reader) = open()?;
    let mut model = models::quantized_llama::ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    measure("every function (init)", rounds, &mut |tokens| model.forward(tokens, 0))?;
    if four_lines <= MOST {
        return Ok(ExitCode::SUCCESS);
    }
    println!("a prefill takes {four_lines:.3} times as long when it is recorded, expected at most {MOST}");
    Ok(ExitCode::FAILURE)
}

/// Prints what recording costs, and returns the largest ratio.
fn measure(name: &str, rounds: usize, prefill: &mut dyn FnMut(&Tensor) -> candle_core::Result<Tensor>) -> Result<f64> {
    let mut largest = 0f64;
    for tokens in PROMPTS {
        let prompt: Vec<u32> = (0..tokens).map(|at| 504 + at * 37 % 20_000).collect();
        let prompt = Tensor::new(prompt, &Device::Cpu)?.unsqueeze(0)?;
        let mut timed = || -> Result<f64> {
            let begin = Instant::now();
            let logits = prefill(&prompt)?;
            let seconds = begin.elapsed().as_secs_f64();
            drop(logits);
            Ok(seconds)
        };
        let (mut pairs, mut untraced, mut traced) = (Vec::new(), Vec::new(), Vec::new());
        let (mut records, mut bytes) = (0, 0);
        timed()?;
        for _ in 0..rounds {
            let directory = tempfile::tempdir()?;
            let session = TraceSession::builder().dir(directory.path()).format("jsonl").start()?;
            let on = session.in_scope(&mut timed)?;
            let trace = session.finish()?;
            records = trace.records().len();
            bytes = trace.records().iter().map(|record| record.num_elements * 4).sum::<usize>();
            // No session lives: a call site loads one byte, as without BITNET_TRACE_DIR.
            let off = timed()?;
            pairs.push(on / off);
            untraced.push(off);
            traced.push(on);
        }
        let [ratio, off, on] = [&mut pairs, &mut untraced, &mut traced].map(|list| median(list));
        #[allow(clippy::cast_precision_loss)] // a few hundred millions
        let megabytes = bytes as f64 / 1e6;
        let (off, on) = (off * 1e3, on * 1e3);
        println!("{name:<22} {tokens:>7} {records:>8} {megabytes:>10.1} {off:>10.1} {on:>7.1} {ratio:>9.3}");
        largest = largest.max(ratio);
    }
    Ok(largest)
}

fn median(list: &mut [f64]) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}
