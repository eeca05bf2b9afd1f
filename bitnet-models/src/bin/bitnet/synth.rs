//! `bitnet synth`: writes a random checkpoint.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_models::Activation;
use bitnet_models::synth::{Format, Shape, Synth};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::interrupt::Interrupt;

#[derive(Args)]
pub(crate) struct Arguments {
    /// `tiny`, or `2b-4t`: the sizes of BitNet b1.58 2B4T
    #[arg(long)]
    shape: Shape,

    /// `hf-offline`, `hf-bf16` (directories), `i2_s`, `tq1_0` or `tq2_0` (GGUF files)
    #[arg(long)]
    format: Format,

    /// Activation of the feed-forward network. A GGUF file says it by its architecture: bitnet-b1.58 for relu2, bitnet,
    /// which is the one that llama.cpp opens, for silu
    #[arg(long, value_enum, default_value = "relu2")]
    activation: ActivationName,

    /// Decides all numbers: files of equal seed and shape hold the same ternary values and scales
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// The file or directory to write; one that an earlier `bitnet synth` wrote is replaced
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum ActivationName {
    Relu2,
    Silu,
}

impl Arguments {
    pub(crate) fn execute(self) -> Result<ExitCode, Box<dyn Error>> {
        let interrupt = Interrupt::listen_to(&[SIGINT, SIGTERM])?;
        let activation = match self.activation {
            ActivationName::Relu2 => Activation::Relu2,
            ActivationName::Silu => Activation::Silu,
        };
        let synth = Synth { shape: self.shape, format: self.format, activation, seed: self.seed };
        // Draws nothing where standard error is not a terminal.
        let bar = ProgressBar::new(0);
        bar.set_style(ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?);
        let written = synth.write_while(&self.out, &mut |written, total| {
            bar.set_length(total);
            bar.set_position(written);
            !interrupt.pressed()
        })?;
        bar.finish_and_clear();
        if written {
            return Ok(ExitCode::SUCCESS);
        }
        let _ = writeln!(io::stderr(), "stopped; nothing was written");
        Ok(interrupt.status().into())
    }
}
