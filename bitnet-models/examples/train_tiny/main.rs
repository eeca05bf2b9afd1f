//! Trains the tiny model that is embedded in `bitnet-models` and writes its checkpoint.
//!
//! A BitNet b1.58 of width 128 learns to add two numbers of up to two digits as plain text:
//! `12+34=` is continued with `46` and an end token. Without arguments it writes the files that the
//! crate embeds, in some minutes on two cores. The bytes are the same on the same kind of processor;
//! on another kind the model scores about the same.
//!
//! ```text
//! cargo run --release --example train_tiny -- --output /tmp/tiny
//! ```
//!
//! Training quantises as the finished model does (ternary weights, int8 activations) and sends
//! gradients straight through the rounding. The finished checkpoint is read back from its bytes,
//! scored on sums it has never seen, and written only if it adds well enough.

mod checkpoint;
mod config;
mod data;
mod error;
mod evaluate;
mod export;
mod model;
mod optimizer;
mod parameters;
mod quantize;
mod sums;
mod threads;
mod training;
mod vocabulary;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::config::Config;
use crate::data::Sampler;
use crate::error::{Error, Result};
use crate::evaluate::Report;
use crate::model::Transformer;
use crate::optimizer::Optimizer;
use crate::parameters::Parameters;

/// Autograd allocates and frees every intermediate tensor; this allocator keeps their pages, which
/// halves the time of a step compared to glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Every width that is a matrix product's input is a multiple of 128, so that the checkpoint also
/// fits formats that pack weights in blocks of 128.
const CONFIG: Config = Config {
    vocab_size: vocabulary::SIZE,
    hidden_size: 128,
    intermediate_size: 384,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: 64,
    rms_norm_eps: 1e-5,
    rope_theta: 1e4,
};

/// Trains the tiny model that adds numbers and writes its checkpoint.
#[derive(Debug, Parser)]
struct Arguments {
    /// Training steps, 128 sums each.
    #[arg(long, default_value_t = 5000)]
    steps: u32,

    /// Seed of the first weights and of the order of the sums.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Directory that gets config.json, tokenizer.json and model.safetensors.
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tiny"))]
    output: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(code) = threads::run_with_candle_threads_off() {
        return code;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let parameters = Parameters::new(&CONFIG, arguments.seed)?;
    let model = Transformer::new(&CONFIG, &parameters)?;
    let mut optimizer = Optimizer::new(&parameters, arguments.steps)?;
    let mut sampler = Sampler::new(arguments.seed);
    training::train(&model, &mut optimizer, &mut sampler, arguments.steps)?;

    let bytes = checkpoint::serialize(&parameters)?;
    let trial = tempfile::tempdir().map_err(Error::Temporary)?;
    export::write(trial.path(), &CONFIG, &bytes)?;
    let report = Report::new(trial.path())?;
    println!("{report}");
    report.require()?;
    for path in export::write(&arguments.output, &CONFIG, &bytes)? {
        println!("{}", path.display());
    }
    Ok(())
}
