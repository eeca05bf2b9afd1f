//! `bitnet run`: generates text and says where the trace is.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use bitnet_models::generate::{Forced, Options, generate, generate_forced};
use bitnet_models::{Checkpoint, Tokenizer, Transformer, tiny};
use bitnet_trace::annotate_run;
use clap::Args;

use crate::capture::Capture;
use crate::force::Reference;

/// Name of the model that is part of the program.
const EMBEDDED: &str = "embedded";

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

    /// Generate at most this many tokens [default: 32; with --force, as many as TRACE has]
    #[arg(long, value_name = "N")]
    max_new_tokens: Option<usize>,

    /// Decode the tokens that another run generated instead of the model's own choices, so that all steps of the two
    /// stay comparable. TRACE is the trace of that run; its `run.json` names the tokens (`generated_tokens`, and
    /// `prompt_tokens`, which have to be those of this run)
    #[arg(long, value_name = "TRACE")]
    force: Option<PathBuf>,

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
    /// With `--force`, what the model would have chosen instead of `generated`.
    chosen: Option<Vec<u32>>,
    /// `None` if token ids were given and the checkpoint has no tokenizer.
    text: Option<String>,
}

impl Answer {
    /// Says on standard error where the model would have left the tokens that it was forced to decode.
    fn warn_of_other_choices(&self) {
        let Some(chosen) = &self.chosen else { return };
        let mut other = (0..).zip(self.generated.iter().zip(chosen)).filter(|(_, (forced, chosen))| forced != chosen);
        if let Some((step, (forced, own))) = other.next() {
            let _ = writeln!(
                io::stderr(),
                "note: on its own the model would have chosen other tokens, {} of {}; the first at step {step}: {own} \
                 instead of {forced}",
                1 + other.count(),
                chosen.len()
            );
        }
    }
}

impl Run {
    pub(crate) fn execute(self) -> Result<(), Box<dyn Error>> {
        // Before the directory of the trace is touched, which may be the same.
        let reference = self.force.as_deref().map(Reference::open).transpose()?;
        let capture = Capture::begin(self.trace_dir.clone());
        let answer = capture.in_scope(|| self.answer(&capture, reference.as_ref()));
        let trace = capture.end();

        let answer = answer?;
        answer.warn_of_other_choices();
        let mut out = io::stdout().lock();
        if self.json {
            let mut json = serde_json::json!({
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
            if let Some(chosen) = answer.chosen {
                json["chosen_tokens"] = chosen.into();
            }
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
    fn answer(&self, capture: &Capture, reference: Option<&Reference>) -> Result<Answer, Box<dyn Error>> {
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
        if let Some(reference) = reference {
            reference.check_prompt(&prompt)?;
        }

        let model = Transformer::load(&checkpoint)?;
        let most = reference.map_or(Options::default().max_new_tokens, |reference| reference.tokens.len());
        let options = Options {
            max_new_tokens: self.max_new_tokens.unwrap_or(most),
            temperature: self.temperature,
            seed: self.seed,
            ignore_eos: self.ignore_eos,
        };
        let (generated, chosen) = match reference {
            Some(reference) => {
                let forced = generate_forced(&model, &prompt, &reference.tokens, &options);
                let Forced { decoded, chosen, .. } = forced.map_err(|error| reference.explain(error))?;
                annotate_run("forced_from", reference.path.display().to_string());
                annotate_run("chosen_tokens", &chosen[..]);
                (decoded, Some(chosen))
            }
            None => (generate(&model, &prompt, &options)?, None),
        };
        annotate_run("generated_tokens", &generated[..]);
        let text = tokenizer.map(|tokenizer| tokenizer.decode(&generated)).transpose()?;
        Ok(Answer { prompt, generated, chosen, text })
    }

    /// The tokenizer. A prompt needs it; token ids are also decoded if the checkpoint has one.
    fn tokenizer(&self, checkpoint: &Checkpoint) -> bitnet_models::Result<Option<Tokenizer>> {
        let wanted = self.prompt.is_some() || checkpoint.has_tokenizer();
        wanted.then(|| checkpoint.tokenizer()).transpose()
    }
}
