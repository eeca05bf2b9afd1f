//! `bitnet run`: generates text and says where the trace is.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use bitnet_models::generate::{Options, generate};
use bitnet_models::{Checkpoint, Tokenizer, tiny};
use bitnet_trace::annotate_run;
use clap::Args;

use crate::capture::Capture;
use crate::compute::Compute;

/// Name of the model that is part of the program.
pub(crate) const EMBEDDED: &str = "embedded";

#[derive(Args)]
pub(crate) struct Run {
    /// Checkpoint directory (config.json, model.safetensors, tokenizer.json), or `embedded`: a tiny
    /// model that adds two numbers of up to two digits
    #[arg(long, value_name = "DIR|embedded", default_value = EMBEDDED)]
    model: PathBuf,

    /// Text to continue, as in "12+34="
    #[arg(long, required_unless_present = "tokens", conflicts_with = "tokens")]
    prompt: Option<String>,

    /// Token ids to continue, as in 1,17,200
    #[arg(long, value_name = "IDS", value_delimiter = ',')]
    tokens: Option<Vec<u32>>,

    /// Generate at most this many tokens
    #[arg(long, value_name = "N", default_value_t = Options::default().max_new_tokens)]
    max_new_tokens: usize,

    /// Above 0: draw each token at random instead of taking the most likely one; a higher temperature makes unlikely
    /// tokens more likely
    #[arg(long, default_value_t = 0.0)]
    temperature: f64,

    /// Seed of the random draw
    #[arg(long, default_value_t = 0)]
    seed: u64,

    /// Continue after an end token
    #[arg(long)]
    ignore_eos: bool,

    #[command(flatten)]
    compute: Compute,

    /// Record every tensor into this directory; takes precedence over the variable `BITNET_TRACE_DIR`. Needs a build
    /// with the feature `trace`
    #[arg(long, value_name = "DIR")]
    trace_dir: Option<PathBuf>,

    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// The result of a run besides its trace.
struct Answer {
    prompt: Vec<u32>,
    generated: Vec<u32>,
    /// `None` if token ids were given and the checkpoint has no tokenizer.
    text: Option<String>,
}

impl Run {
    pub(crate) fn execute(self) -> Result<(), Box<dyn Error>> {
        let capture = Capture::begin(self.trace_dir.clone());
        let answer = capture.in_scope(|| self.answer(&capture));
        let trace = capture.end();

        let answer = answer?;
        let mut out = io::stdout().lock();
        if self.json {
            let json = serde_json::json!({
                "prompt": self.prompt,
                "prompt_tokens": answer.prompt,
                "tokens": answer.generated,
                "text": answer.text,
                "trace": trace.as_ref().map(|trace| serde_json::json!({
                    "directory": trace.directory,
                    "records": trace.records(),
                    "lost": trace.lost,
                })),
            });
            writeln!(out, "{json:#}")?;
            return Ok(());
        }
        // A prompt of token ids is answered with token ids.
        match &answer.text {
            Some(text) if self.tokens.is_none() => writeln!(out, "{text}")?,
            _ => writeln!(out, "{}", answer.generated.iter().map(u32::to_string).collect::<Vec<_>>().join(","))?,
        }
        if let Some(trace) = trace {
            write!(out, "\n{trace}")?;
        }
        Ok(())
    }

    #[cfg_attr(not(feature = "trace"), allow(unused_variables))] // without a trace there is nothing to annotate
    fn answer(&self, capture: &Capture) -> bitnet_models::Result<Answer> {
        let checkpoint =
            if self.model.as_os_str() == EMBEDDED { tiny::checkpoint()? } else { Checkpoint::open(&self.model)? };
        annotate_run("model", self.model.display().to_string());
        // Hashing gigabytes of weights takes seconds, so it is done only if the run is recorded.
        #[cfg(feature = "trace")]
        if capture.records() {
            annotate_run("checkpoint_blake3", checkpoint.digest());
        }

        let tokenizer = self.tokenizer(&checkpoint)?;
        let prompt = match (&self.prompt, &tokenizer, &self.tokens) {
            (Some(text), Some(tokenizer), _) => {
                annotate_run("prompt", text.as_str());
                tokenizer.encode(text)?
            }
            (_, _, tokens) => tokens.clone().unwrap_or_default(),
        };
        annotate_run("prompt_tokens", &prompt[..]);

        let model = self.compute.load(&checkpoint)?;
        let options = Options {
            max_new_tokens: self.max_new_tokens,
            temperature: self.temperature,
            seed: self.seed,
            ignore_eos: self.ignore_eos,
        };
        let generated = generate(&model, &prompt, &options)?;
        annotate_run("generated_tokens", &generated[..]);
        let text = tokenizer.map(|tokenizer| tokenizer.decode(&generated)).transpose()?;
        Ok(Answer { prompt, generated, text })
    }

    /// The tokenizer. A prompt needs it; token ids are also decoded if the checkpoint has one.
    fn tokenizer(&self, checkpoint: &Checkpoint) -> bitnet_models::Result<Option<Tokenizer>> {
        let wanted = self.prompt.is_some() || checkpoint.has_tokenizer();
        wanted.then(|| checkpoint.tokenizer()).transpose()
    }
}
