//! The options that say what computes: threads and instructions.

use bitnet_models::kernels::Kernel;
use bitnet_models::{Checkpoint, Transformer};
use clap::Args;

#[derive(Args)]
pub(crate) struct Compute {
    /// Compute on this many threads [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,

    /// Compute with these instructions: portable, avx2 or avx512-vnni [default: the fastest that the processor has]. The
    /// numbers are the same
    #[arg(long, value_name = "NAME")]
    kernel: Option<Kernel>,
}

impl Compute {
    /// Loads the model of a checkpoint.
    pub(crate) fn load(&self, checkpoint: &Checkpoint) -> bitnet_models::Result<Transformer> {
        let mut model = Transformer::load(checkpoint)?;
        if let Some(threads) = self.threads {
            model = model.with_threads(threads.into())?;
        }
        if let Some(kernel) = self.kernel {
            model = model.with_kernel(kernel)?;
        }
        Ok(model)
    }

    /// How many threads compute.
    pub(crate) fn threads(&self) -> usize {
        self.threads.map_or_else(rayon::current_num_threads, usize::from)
    }
}
