//! Scores the packed model as it will be shipped: read from its files, decoded greedily by the
//! crate's own integer path.

use std::path::Path;

use bitnet_models::generate::{Options, generate};
use bitnet_models::{Checkpoint, Tokenizer, Transformer};

use crate::error::{Error, Result};
use crate::sums;

/// The smallest share of the held-out sums that a model must get right, in thousandths.
const REQUIRED_PER_MILLE: usize = 995;

/// Right answers out of all asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    /// Sums answered exactly.
    pub(crate) right: usize,
    /// Sums asked.
    pub(crate) asked: usize,
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} right", self.right, self.asked)
    }
}

/// How well a model adds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Report {
    /// Sums it has never seen, in either order.
    pub(crate) held_out: Score,
    /// All sums of two single digits.
    pub(crate) single_digit: Score,
    /// The sums it was trained on.
    pub(crate) training: Score,
}

impl Report {
    /// Asks the model of a checkpoint directory all sums.
    ///
    /// # Errors
    ///
    /// If the checkpoint cannot be read or the model fails.
    pub(crate) fn new(directory: &Path) -> Result<Self> {
        let checkpoint = Checkpoint::open(directory)?;
        let (model, tokenizer) = (Transformer::load(&checkpoint)?, checkpoint.tokenizer()?);
        let score = |pairs: Vec<(u32, u32)>| score(&model, &tokenizer, &pairs);
        Ok(Self {
            held_out: score(sums::held_out())?,
            single_digit: score(sums::single_digit())?,
            training: score(sums::training())?,
        })
    }

    /// Whether the model may be shipped.
    ///
    /// # Errors
    ///
    /// If it gets a single-digit sum or too many of the held-out sums wrong.
    pub(crate) fn require(&self) -> Result<()> {
        if self.held_out.right * 1000 < self.held_out.asked * REQUIRED_PER_MILLE {
            let reason = format!("held-out sums: {}; expected at least {REQUIRED_PER_MILLE} of 1000", self.held_out);
            return Err(Error::Refused(reason));
        }
        if self.single_digit.right < self.single_digit.asked {
            let reason = format!("single-digit sums: {}; expected all", self.single_digit);
            return Err(Error::Refused(reason));
        }
        Ok(())
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "held-out sums:     {}", self.held_out)?;
        writeln!(f, "single-digit sums: {}", self.single_digit)?;
        write!(f, "training sums:     {}", self.training)
    }
}

/// Counts the sums that a model answers exactly.
fn score(model: &Transformer, tokenizer: &Tokenizer, pairs: &[(u32, u32)]) -> Result<Score> {
    let mut right = 0;
    for &(a, b) in pairs {
        let prompt = tokenizer.encode(&sums::prompt(a, b))?;
        let answer = tokenizer.decode(&generate(model, &prompt, &Options::default())?)?;
        right += usize::from(answer == sums::answer(a, b));
    }
    Ok(Score { right, asked: pairs.len() })
}
