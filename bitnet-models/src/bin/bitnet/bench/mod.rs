//! `bitnet bench`: how fast a checkpoint loads and runs, and how close that is to what the memory allows.

mod bandwidth;
mod memory;
mod tracing;

use std::error::Error;
use std::fs::Metadata;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitnet_models::{Checkpoint, KvCache, Transformer, tiny};
use clap::Args;
use serde::Serialize;

use self::bandwidth::Memory;
use self::memory::Resident;
use crate::compute::Compute;
use crate::run::EMBEDDED;

#[derive(Args)]
pub(crate) struct Bench {
    /// Checkpoint directory or GGUF file, or `embedded`
    #[arg(long, value_name = "PATH|embedded", default_value = EMBEDDED)]
    model: PathBuf,

    /// Tokens of the prompt that is computed at once [default: 128, or what the model's context leaves]
    #[arg(long, value_name = "N")]
    prompt_tokens: Option<usize>,

    /// Tokens that are computed one by one after it [default: 32, or a quarter of the model's context]
    #[arg(long, value_name = "N")]
    decode: Option<usize>,

    /// Measure everything this many times; the medians are shown
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    #[command(flatten)]
    compute: Compute,

    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// What was measured. Times are in seconds, sizes in bytes.
#[derive(Serialize)]
struct Report {
    model: String,
    kernel: String,
    threads: usize,
    file_bytes: Option<u64>,
    load_seconds: f64,
    prompt_tokens: usize,
    prefill_seconds: f64,
    prefill_tokens_per_second: f64,
    decode_seconds_per_token: f64,
    decode_tokens_per_second: f64,
    weight_bytes_per_token: usize,
    read_bytes_per_second: f64,
    /// The time to read as many bytes of memory as a token's weights have, as a share of the time to compute the token.
    bandwidth_share: f64,
    resident_bytes: Option<u64>,
    peak_resident_bytes: Option<u64>,
    /// Times of a token with a trace over those without; `None` in a build that cannot trace.
    tracing: Option<Tracing>,
}

#[derive(Serialize)]
struct Tracing {
    filter: &'static str,
    filtered: f64,
    everything: f64,
}

impl Bench {
    pub(crate) fn execute(self) -> Result<(), Box<dyn Error>> {
        let report = self.measure()?;
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&report)?)?;
        } else {
            report.print(&mut out)?;
        }
        Ok(())
    }

    fn measure(&self) -> Result<Report, Box<dyn Error>> {
        let begin = Instant::now();
        let checkpoint =
            if self.model.as_os_str() == EMBEDDED { tiny::checkpoint()? } else { Checkpoint::open(&self.model)? };
        let model = self.compute.load(&checkpoint)?;
        let load = begin.elapsed();

        let context = model.config().max_position_embeddings;
        let decode_tokens = self.decode.unwrap_or(32.min(context / 4));
        let prompt_tokens = self.prompt_tokens.unwrap_or(128.min(context.saturating_sub(decode_tokens)));
        let mut run = Run::new(&model, prompt_tokens, decode_tokens)?;
        // The first round has the page faults of the first use; it is not counted.
        let mut cache = run.prefill()?.0;
        run.decode(&mut cache)?;
        let resident = Resident::read();

        let memory = Memory::new(self.compute.threads())?;
        let (mut prefills, mut decodes) = (Vec::new(), Vec::new());
        // The fastest: what the machine can do is not what others on it leave at the moment.
        let mut read = memory.read();
        for _ in 0..self.rounds {
            let (mut cache, prefill) = run.prefill()?;
            prefills.push(prefill);
            decodes.push(run.decode(&mut cache)?);
            read = read.min(memory.read());
        }
        drop(memory);
        let tracing = tracing::measure(self.rounds.into(), || {
            let mut cache = run.prefill()?.0;
            run.decode(&mut cache)
        })?;

        let (prefill, decode) = (median(prefills), median(decodes));
        #[allow(clippy::cast_precision_loss)] // sizes of memory
        let part = model.bytes_per_token() as f64 / bandwidth::BYTES as f64;
        #[allow(clippy::cast_precision_loss)] // counts of tokens and sizes of memory
        Ok(Report {
            model: self.model.display().to_string(),
            kernel: model.kernel().to_string(),
            threads: self.compute.threads(),
            file_bytes: size(&self.model),
            load_seconds: load.as_secs_f64(),
            prompt_tokens,
            prefill_seconds: prefill.as_secs_f64(),
            prefill_tokens_per_second: prompt_tokens as f64 / prefill.as_secs_f64(),
            decode_seconds_per_token: decode.as_secs_f64(),
            decode_tokens_per_second: 1.0 / decode.as_secs_f64(),
            weight_bytes_per_token: model.bytes_per_token(),
            read_bytes_per_second: bandwidth::BYTES as f64 / read.as_secs_f64(),
            bandwidth_share: read.as_secs_f64() * part / decode.as_secs_f64(),
            resident_bytes: resident.map(|resident| resident.now),
            peak_resident_bytes: resident.map(|resident| resident.most),
            tracing: tracing.map(|times| {
                let off = median(times.off).as_secs_f64();
                let over = |times| median(times).as_secs_f64() / off;
                Tracing { filter: tracing::FILTER, filtered: over(times.filtered), everything: over(times.all) }
            }),
        })
    }
}

/// Computes the same tokens again and again.
struct Run<'a> {
    model: &'a Transformer,
    prompt: Vec<u32>,
    next: Vec<u32>,
}

impl<'a> Run<'a> {
    fn new(model: &'a Transformer, prompt: usize, decode: usize) -> Result<Self, Box<dyn Error>> {
        let context = model.config().max_position_embeddings;
        if prompt == 0 || decode == 0 || prompt.saturating_add(decode) > context {
            return Err(format!(
                "{prompt} tokens of the prompt and {decode} after it; expected at least one of each, and no more than the \
                 model's context of {context} positions: see --prompt-tokens and --decode"
            )
            .into());
        }
        let vocabulary = u32::try_from(model.config().vocab_size).unwrap_or(u32::MAX);
        // Ids that are spread over the vocabulary.
        let mut ids = (1u32..).map(|i| i.wrapping_mul(2_654_435_761) % vocabulary);
        Ok(Self { model, prompt: ids.by_ref().take(prompt).collect(), next: ids.take(decode).collect() })
    }

    fn prefill(&mut self) -> bitnet_models::Result<(KvCache, Duration)> {
        let mut cache = KvCache::new(self.model.config());
        let begin = Instant::now();
        self.model.forward_last(&self.prompt, &mut cache)?;
        Ok((cache, begin.elapsed()))
    }

    /// The median time of a token.
    fn decode(&mut self, cache: &mut KvCache) -> bitnet_models::Result<Duration> {
        let mut times = Vec::with_capacity(self.next.len());
        for token in &self.next {
            let begin = Instant::now();
            self.model.forward_incremental(*token, cache)?;
            times.push(begin.elapsed());
        }
        Ok(median(times))
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Bytes of a file, or of the files in a directory.
fn size(path: &Path) -> Option<u64> {
    let metadata = path.metadata().ok()?;
    if metadata.is_file() {
        return Some(metadata.len());
    }
    let files = path.read_dir().ok()?.filter_map(Result::ok).filter_map(|entry| entry.path().metadata().ok());
    Some(files.filter(Metadata::is_file).map(|file| file.len()).sum())
}

impl Report {
    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let file = self.file_bytes.map_or_else(String::new, |bytes| format!(", {}", megabytes(bytes)));
        writeln!(out, "model    {}{file}; kernel {}, {} threads", self.model, self.kernel, self.threads)?;
        writeln!(out, "load     {:.3} s", self.load_seconds)?;
        writeln!(
            out,
            "prefill  {} tokens in {:.3} s, {:.1} tokens/s",
            self.prompt_tokens, self.prefill_seconds, self.prefill_tokens_per_second
        )?;
        writeln!(
            out,
            "decode   {:.2} ms a token, {:.1} tokens/s",
            1e3 * self.decode_seconds_per_token,
            self.decode_tokens_per_second
        )?;
        writeln!(
            out,
            "weights  {} a token; memory is read at {:.1} GB/s, and so many bytes in {:.2} of the time of a token",
            megabytes(self.weight_bytes_per_token as u64),
            self.read_bytes_per_second / 1e9,
            self.bandwidth_share
        )?;
        match (self.resident_bytes, self.peak_resident_bytes) {
            (Some(now), Some(most)) => {
                writeln!(out, "memory   {} resident, {} at most", megabytes(now), megabytes(most))?;
            }
            _ => writeln!(out, "memory   not known on this system")?,
        }
        match &self.tracing {
            Some(Tracing { filter, filtered, everything }) => writeln!(
                out,
                "tracing  a token takes {filtered:.3} times as long with the filter {filter}, {everything:.3} times with \
                 every record"
            ),
            None => {
                writeln!(out, "tracing  not in this build: `cargo run --release --features trace -- bench` measures it")
            }
        }
    }
}

fn megabytes(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss)] // a size to read
    let megabytes = bytes as f64 / 1e6;
    format!("{megabytes:.0} MB")
}
