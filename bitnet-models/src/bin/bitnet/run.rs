//! `bitnet run`: generates text and says where the trace is.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bitnet_models::chat::{self, Message};
use bitnet_models::generate::{Options, Steps};
use bitnet_models::{Checkpoint, Tokenizer, tiny};
use bitnet_trace::annotate_run;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::capture::Capture;
use crate::compute::Compute;
use crate::force::Reference;
use crate::interrupt::{self, Interrupt};
use crate::output::{Output, Shown};
use crate::{printable, with_reasons};

/// Name of the model that is part of the program.
pub(crate) const EMBEDDED: &str = "embedded";

#[derive(Args)]
pub(crate) struct Run {
    /// Checkpoint: a directory (config.json, model.safetensors, tokenizer.json), a .gguf file, or `embedded`: a tiny
    /// model that adds two numbers of up to two digits
    #[arg(long, value_name = "PATH|embedded", default_value = EMBEDDED)]
    model: PathBuf,

    /// Text to continue, as in "12+34=". What the model adds is printed as it comes
    #[arg(long, required_unless_present = "tokens", conflicts_with = "tokens")]
    prompt: Option<String>,

    /// Answer the prompt as a message of a user, in the words of the checkpoint's chat template
    #[arg(long, conflicts_with = "tokens")]
    chat: bool,

    /// With --chat: a message before the prompt that tells the model how to behave
    #[arg(long, value_name = "TEXT", requires = "chat")]
    system: Option<String>,

    /// With --chat: a Jinja file to use instead of the checkpoint's chat template
    #[arg(long, value_name = "FILE", requires = "chat")]
    chat_template: Option<PathBuf>,

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

    /// Continue after an end token. End tokens are those of `config.json`, `generation_config.json` and the vocabulary,
    /// and `<|eot_id|>`
    #[arg(long)]
    ignore_eos: bool,

    /// End before this text, which is not printed; may be given more than once. Needs a tokenizer. With --tokens the run
    /// ends there too, but the ids that the text is made of are printed
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    stop: Vec<String>,

    #[command(flatten)]
    compute: Compute,

    /// Record every tensor into this directory; takes precedence over the variable `BITNET_TRACE_DIR`. Needs a build
    /// with the feature `trace`
    #[arg(long, value_name = "DIR")]
    trace_dir: Option<PathBuf>,

    /// Print one JSON object at the end instead of text as it comes
    #[arg(long)]
    json: bool,
}

/// The result of a run besides its trace.
struct Answer {
    /// What the model is given to continue; `None` if token ids were given.
    prompt_text: Option<String>,
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
    pub(crate) fn execute(self) -> Result<ExitCode, Box<dyn Error>> {
        // Before the directory of the trace is touched, which may be the same.
        let reference = self.force.as_deref().map(Reference::open).transpose()?;
        let interrupt = Interrupt::listen()?;
        let capture = Capture::begin(self.trace_dir.clone());
        let answer = capture.in_scope(|| self.answer(&capture, reference.as_ref(), &interrupt));
        let trace = capture.end();

        let answer = answer?;
        answer.warn_of_other_choices();
        let mut out = io::stdout().lock();
        if self.json {
            let mut json = serde_json::json!({
                "prompt": answer.prompt_text,
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
        } else if let Some(trace) = trace {
            write!(out, "\n{trace}")?;
        }
        Ok(if interrupt.pressed() { interrupt::STATUS.into() } else { ExitCode::SUCCESS })
    }

    #[cfg_attr(not(feature = "trace"), allow(unused_variables))] // without a trace there is nothing to annotate
    fn answer(
        &self,
        capture: &Capture,
        reference: Option<&Reference>,
        interrupt: &Interrupt,
    ) -> Result<Answer, Box<dyn Error>> {
        let checkpoint =
            if self.model.as_os_str() == EMBEDDED { tiny::checkpoint()? } else { Checkpoint::open(&self.model)? };
        annotate_run("model", self.model.display().to_string());
        // Hashing gigabytes of weights takes seconds, so it is done only if the run is recorded.
        #[cfg(feature = "trace")]
        if capture.records() {
            annotate_run("checkpoint_blake3", checkpoint.digest());
        }

        let tokenizer = self.tokenizer(&checkpoint)?;
        if tokenizer.is_none() && !self.stop.is_empty() {
            return Err(
                "--stop needs a tokenizer to find the text, and the checkpoint has none that can be read".into()
            );
        }
        let prompt_text = self.prompt_text(&checkpoint)?;
        let prompt = match (&prompt_text, &tokenizer, &self.tokens) {
            (Some(text), Some(tokenizer), _) => {
                annotate_run("prompt", text.as_str());
                if self.chat { tokenizer.encode_as_written(text)? } else { tokenizer.encode(text)? }
            }
            (_, _, tokens) => tokens.clone().unwrap_or_default(),
        };
        annotate_run("prompt_tokens", &prompt[..]);
        if let Some(reference) = reference {
            reference.check_prompt(&prompt)?;
        }

        let model = self.compute.load(&checkpoint)?;
        let most = reference.map_or(Options::default().max_new_tokens, |reference| reference.tokens.len());
        let options = Options {
            max_new_tokens: self.max_new_tokens.unwrap_or(most),
            temperature: self.temperature,
            seed: self.seed,
            ignore_eos: self.ignore_eos,
            end_tokens: checkpoint.end_tokens(tokenizer.as_ref())?,
            all_logits: capture.is_on(),
        };
        let mut steps = match reference {
            Some(reference) => {
                Steps::forced(&model, &prompt, &reference.tokens, &options).map_err(|error| reference.explain(error))?
            }
            None => Steps::new(&model, &prompt, &options)?,
        };
        // A prompt of token ids is answered with token ids.
        let shown = match (self.json, &self.tokens) {
            (true, _) => Shown::Nothing,
            (false, Some(_)) => Shown::Ids,
            (false, None) => Shown::Text,
        };
        let mut output = Output::new(shown, tokenizer.as_ref().map(Tokenizer::stream), &self.stop);
        let (mut generated, mut chosen) = (Vec::new(), Vec::new());
        let ended = generate(&mut steps, &mut output, interrupt, &mut generated, &mut chosen);
        if let Some(reference) = reference {
            annotate_run("forced_from", reference.path.display().to_string());
            annotate_run("chosen_tokens", &chosen[..]);
        }
        // Also what came before an error or Ctrl-C.
        annotate_run("generated_tokens", &generated[..]);
        if let Err(error) = ended {
            output.abandon();
            return Err(match (error.downcast::<bitnet_models::Error>(), reference) {
                (Ok(error), Some(reference)) => reference.explain(*error),
                (Ok(error), None) => error,
                (Err(error), _) => error,
            });
        }
        let text = output.finish()?;
        Ok(Answer { prompt_text, prompt, generated, chosen: reference.map(|_| chosen), text })
    }

    /// What the model is given to continue; `None` for token ids.
    fn prompt_text(&self, checkpoint: &Checkpoint) -> Result<Option<String>, Box<dyn Error>> {
        let Some(prompt) = &self.prompt else { return Ok(None) };
        if !self.chat {
            return Ok(Some(prompt.clone()));
        }
        let template = match &self.chat_template {
            Some(path) => checkpoint.chat_template_in(path)?,
            None => checkpoint.chat_template()?,
        };
        let system = self.system.iter().map(|text| Message::new(chat::SYSTEM, text.as_str()));
        let messages: Vec<Message> = system.chain([Message::new(chat::USER, prompt.as_str())]).collect();
        let pairs = messages.iter().map(|message| vec![message.role.clone(), message.content.clone()]);
        annotate_run("chat", pairs.collect::<Vec<_>>());
        Ok(Some(template.render(&messages)?))
    }

    /// The tokenizer. A prompt needs it; token ids are also decoded if the checkpoint has one that can be read.
    fn tokenizer(&self, checkpoint: &Checkpoint) -> bitnet_models::Result<Option<Tokenizer>> {
        if self.prompt.is_some() {
            return checkpoint.tokenizer().map(Some);
        }
        if !checkpoint.has_tokenizer() {
            return Ok(None);
        }
        Ok(checkpoint
            .tokenizer()
            .inspect_err(|error| {
                let warning = format!("warning: {}; the tokens are not decoded", with_reasons(error));
                let _ = writeln!(io::stderr(), "{}", printable(&warning));
            })
            .ok())
    }
}

/// Prints each token as it comes, until the last one, a stop text or Ctrl-C.
fn generate(
    steps: &mut Steps<'_>,
    output: &mut Output<'_>,
    interrupt: &Interrupt,
    generated: &mut Vec<u32>,
    chosen: &mut Vec<u32>,
) -> Result<(), Box<dyn Error>> {
    for step in steps {
        let step = step?;
        generated.push(step.token);
        chosen.push(step.chosen);
        if output.push(step.token)? || interrupt.pressed() {
            break;
        }
    }
    Ok(())
}
