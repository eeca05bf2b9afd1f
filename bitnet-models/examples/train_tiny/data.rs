//! Batches of sums: small operands drawn more often, loss on the answer and its end only.

use candle_core::{Device, Tensor};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::error::Result;
use crate::{sums, vocabulary};

/// Tokens of the longest example without its end: `99+99=198`.
const LONGEST: usize = 9;

/// Share of the examples that are sums of two single digits. They are 1 % of all sums, and most
/// errors of a model trained without this are among them.
const SINGLE_DIGIT_SHARE: f64 = 0.10;

/// Share of the examples with at least one operand of a single digit (19 % of all sums).
const SHORT_SHARE: f64 = 0.15;

/// Numbers below this have a single digit.
const SINGLE_DIGIT_END: u32 = 10;

/// Draws training examples, reproducibly.
pub(crate) struct Sampler {
    random: StdRng,
    all: Vec<(u32, u32)>,
    short: Vec<(u32, u32)>,
    single_digit: Vec<(u32, u32)>,
}

/// Some examples, ready for the model.
pub(crate) struct Batch {
    /// Token ids `[batch, LONGEST]`, padded on the right.
    pub(crate) tokens: Tensor,
    /// Which of the `batch * LONGEST` positions predict a part of the answer: `[predictions]`.
    pub(crate) positions: Tensor,
    /// The token each of them should predict: `[predictions]`.
    pub(crate) targets: Tensor,
    /// The number of predictions.
    pub(crate) predictions: u32,
}

impl Sampler {
    /// A sampler over the training sums.
    pub(crate) fn new(seed: u64) -> Self {
        let all = sums::training();
        let short = all.iter().copied().filter(|&(a, b)| a < SINGLE_DIGIT_END || b < SINGLE_DIGIT_END).collect();
        Self { random: StdRng::seed_from_u64(seed), all, short, single_digit: sums::single_digit() }
    }

    /// The next `size` examples.
    ///
    /// # Errors
    ///
    /// If the tensors cannot be made.
    pub(crate) fn batch(&mut self, size: usize) -> Result<Batch> {
        let pairs: Vec<(u32, u32)> = (0..size).map(|_| self.pair()).collect();
        Batch::new(&pairs)
    }

    fn pair(&mut self) -> (u32, u32) {
        let choice: f64 = self.random.random();
        let pool = if choice < SINGLE_DIGIT_SHARE {
            &self.single_digit
        } else if choice < SINGLE_DIGIT_SHARE + SHORT_SHARE {
            &self.short
        } else {
            &self.all
        };
        pool[self.random.random_range(0..pool.len())]
    }
}

impl Batch {
    fn new(pairs: &[(u32, u32)]) -> Result<Self> {
        let mut tokens = Vec::with_capacity(pairs.len() * LONGEST);
        let mut positions = Vec::new();
        let mut targets = Vec::new();
        for &(a, b) in pairs {
            let start = tokens.len();
            let prompt = vocabulary::encode(&sums::prompt(a, b))?;
            let answer = vocabulary::encode(&sums::answer(a, b))?;
            // The last token of the prompt predicts the answer's first token; the answer's last predicts the end.
            let first = start + prompt.len() - 1;
            for position in first..=first + answer.len() {
                positions.push(u32::try_from(position)?);
            }
            tokens.extend(prompt);
            tokens.extend(&answer);
            tokens.resize(start + LONGEST, vocabulary::PAD);
            targets.extend(answer);
            targets.push(vocabulary::END);
        }
        let device = Device::Cpu;
        Ok(Self {
            tokens: Tensor::from_vec(tokens, (pairs.len(), LONGEST), &device)?,
            predictions: u32::try_from(targets.len())?,
            positions: Tensor::new(positions, &device)?,
            targets: Tensor::new(targets, &device)?,
        })
    }
}
