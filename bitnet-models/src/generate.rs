//! Generates the tokens after a prompt.

use candle_core::Tensor;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::error::{Error, Result};
use crate::kv_cache::KvCache;
use crate::transformer::Transformer;

/// How tokens are chosen and when to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// The most tokens to generate.
    pub max_new_tokens: usize,
    /// 0 takes the most likely token. Above 0 tokens are drawn at random; a higher temperature makes unlikely tokens
    /// more likely.
    pub temperature: f64,
    /// Seed of the random draw.
    pub seed: u64,
    /// Whether to continue after an end token.
    pub ignore_eos: bool,
    /// Ids that end the text besides those of the model's configuration, as from
    /// [`Checkpoint::end_tokens`](crate::Checkpoint::end_tokens).
    pub end_tokens: Vec<u32>,
    /// Whether the logits of all tokens of the prompt are computed, to be recorded. Those of the last one choose the next
    /// token; the others take time, and memory of the size of the vocabulary for each token.
    pub all_logits: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_new_tokens: 32,
            temperature: 0.0,
            seed: 0,
            ignore_eos: false,
            end_tokens: Vec::new(),
            all_logits: true,
        }
    }
}

/// Generates tokens after `prompt`: one prefill, then one decode step a token. The last token is
/// chosen but not computed; an end token ends the text and is part of the result. Stops early if the
/// context is full.
///
/// # Errors
///
/// If the prompt is empty, too long or holds an id outside the vocabulary, the temperature is not a
/// finite number of at least 0, or no logit is finite.
pub fn generate(model: &Transformer, prompt: &[u32], options: &Options) -> Result<Vec<u32>> {
    Steps::new(model, prompt, options)?.map(|step| Ok(step?.token)).collect()
}

/// One token after the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// The token.
    pub token: u32,
    /// The model's own choice: another one than `token` only if tokens are forced.
    pub chosen: u32,
}

/// The tokens after a prompt, each when it is asked for: the first computes the prefill, each other one decode step.
/// After an error there are no more.
///
/// ```
/// use bitnet_models::generate::{Options, Steps};
/// use bitnet_models::{Transformer, tiny};
///
/// # fn main() -> bitnet_models::Result<()> {
/// let checkpoint = tiny::checkpoint()?;
/// let (tokenizer, model) = (checkpoint.tokenizer()?, Transformer::load(&checkpoint)?);
/// let mut text = tokenizer.stream();
/// for step in Steps::new(&model, &tokenizer.encode("12+34=")?, &Options::default())? {
///     print!("{}", text.push(step?.token)?); // prints 46
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Steps<'a> {
    model: &'a Transformer,
    prompt: &'a [u32],
    forced: Option<&'a [u32]>,
    sampler: Sampler,
    cache: KvCache,
    /// Ids after which no token follows.
    ends: Vec<u32>,
    /// The most tokens.
    most: usize,
    all_logits: bool,
    count: usize,
    next: Next,
}

/// What gives the next token.
#[derive(Debug, Clone, Copy)]
enum Next {
    Prefill,
    Decode(u32),
    Nothing,
}

impl<'a> Steps<'a> {
    /// The tokens of [`generate`].
    ///
    /// # Errors
    ///
    /// If the temperature is not a finite number of at least 0. The other errors of [`generate`] come with the tokens.
    pub fn new(model: &'a Transformer, prompt: &'a [u32], options: &Options) -> Result<Self> {
        let ends = if options.ignore_eos {
            Vec::new()
        } else {
            [&model.config().eos_token_ids[..], &options.end_tokens].concat()
        };
        Ok(Self {
            model,
            prompt,
            forced: None,
            sampler: Sampler::new(options)?,
            cache: KvCache::new(model.config()),
            ends,
            most: options.max_new_tokens,
            all_logits: options.all_logits,
            count: 0,
            next: Next::Prefill,
        })
    }

    /// The tokens `forced` instead of the model's own choices, so that each step computes what another run computed,
    /// whatever this one would have chosen; the choices come with them. It ends with the last of `forced`, after
    /// [`max_new_tokens`](Options::max_new_tokens), or where the context is full; an end token does not end it, because
    /// the other run went on after it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and if `forced` holds an id outside the vocabulary.
    pub fn forced(model: &'a Transformer, prompt: &'a [u32], forced: &'a [u32], options: &Options) -> Result<Self> {
        let steps = Self::new(model, prompt, options)?;
        let vocab_size = model.config().vocab_size;
        let outside = |id: &u32| usize::try_from(*id).map_or(true, |id| id >= vocab_size);
        if let Some((index, id)) = forced.iter().enumerate().find(|(_, id)| outside(id)) {
            return Err(Error::TokenOutOfRange { id: *id, position: prompt.len() + index, vocab_size });
        }
        Ok(Self { forced: Some(forced), ends: Vec::new(), most: steps.most.min(forced.len()), ..steps })
    }

    fn step(&mut self) -> Result<Option<Step>> {
        let logits = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Prefill if self.all_logits => self.model.forward_full(self.prompt, &mut self.cache)?,
            Next::Prefill => self.model.forward_last(self.prompt, &mut self.cache)?,
            Next::Decode(token) => self.model.forward_incremental(token, &mut self.cache)?,
            Next::Nothing => return Ok(None),
        };
        if self.count == self.most {
            return Ok(None);
        }
        let chosen = self.sampler.next(&last_row(&logits)?, self.cache.positions() - 1)?;
        let token = self.forced.and_then(|forced| forced.get(self.count).copied()).unwrap_or(chosen);
        self.count += 1;
        let full = self.cache.positions() == self.model.config().max_position_embeddings;
        if !full && self.count < self.most && !self.ends.contains(&token) {
            self.next = Next::Decode(token);
        }
        Ok(Some(Step { token, chosen }))
    }
}

impl Iterator for Steps<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

/// The last token's logits of `[1, tokens, vocabulary]`.
fn last_row(logits: &Tensor) -> Result<Vec<f32>> {
    let (_, tokens, _) = logits.dims3()?;
    Ok(logits.get(0)?.get(tokens - 1)?.to_vec1()?)
}

#[derive(Debug)]
struct Sampler {
    temperature: f64,
    random: StdRng,
}

impl Sampler {
    fn new(options: &Options) -> Result<Self> {
        if !options.temperature.is_finite() || options.temperature < 0.0 {
            return Err(Error::Temperature(options.temperature));
        }
        Ok(Self { temperature: options.temperature, random: StdRng::seed_from_u64(options.seed) })
    }

    /// Chooses the next token from the logits of the token at `position`.
    fn next(&mut self, logits: &[f32], position: usize) -> Result<u32> {
        let finite = || (0u32..).zip(logits).filter(|(_, logit)| logit.is_finite());
        // Takes the first of equal logits, as torch.argmax does on the CPU.
        let best = finite().reduce(|best, next| if next.1 > best.1 { next } else { best });
        let Some((best, highest)) = best else { return Err(Error::NoFiniteLogit { position }) };
        if self.temperature == 0.0 {
            return Ok(best);
        }
        let weight = |logit: &f32| (f64::from(logit - highest) / self.temperature).exp();
        let mut left = self.random.random::<f64>() * finite().map(|(_, logit)| weight(logit)).sum::<f64>();
        for (token, logit) in finite() {
            left -= weight(logit);
            if left <= 0.0 {
                return Ok(token);
            }
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::{Options, Sampler};

    #[test]
    fn greedy_takes_the_first_of_the_highest_and_passes_over_nan() {
        let mut sampler = Sampler::new(&Options::default()).expect("a valid temperature");
        assert_eq!(sampler.next(&[f32::NAN, 1.0, 3.0, 3.0, f32::INFINITY], 0).expect("finite logits"), 2);
        assert!(sampler.next(&[f32::NAN], 7).is_err_and(|error| error.to_string().contains("position 7")));
    }

    #[test]
    fn a_draw_follows_the_seed_and_the_temperature() {
        let draw = |seed, temperature| {
            let options = Options { temperature, seed, ..Options::default() };
            let mut sampler = Sampler::new(&options).expect("a valid temperature");
            (0..100).map(|_| sampler.next(&[0.0, 1.0, 2.0], 0).expect("finite logits")).collect::<Vec<u32>>()
        };
        assert_eq!(draw(1, 1.0), draw(1, 1.0));
        assert_ne!(draw(1, 1.0), draw(2, 1.0));
        assert!(draw(1, 1.0).contains(&0));
        assert!(draw(1, 0.01).iter().all(|token| *token == 2));
        assert!(Sampler::new(&Options { temperature: f64::NAN, ..Options::default() }).is_err());
    }
}
