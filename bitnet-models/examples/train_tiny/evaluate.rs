//! Scores the packed model by letting it answer sums greedily.

use std::collections::BTreeMap;

use bitnet_models::tiny::sums;
use candle_core::{D, Device, Tensor};

use crate::error::{Error, Result};
use crate::model::Transformer;
use crate::vocabulary;

/// Tokens of the longest answer with its end: `198` and the end.
const LONGEST_ANSWER: usize = 4;

/// Sums that are answered side by side.
const BATCH: usize = 500;

/// The least a model must get right of the held-out sums, in thousandths.
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
    /// Asks a model all sums.
    ///
    /// # Errors
    ///
    /// If the model fails.
    pub(crate) fn new(model: &Transformer) -> Result<Self> {
        Ok(Self {
            held_out: score(model, &sums::held_out())?,
            single_digit: score(model, &sums::single_digit())?,
            training: score(model, &sums::training())?,
        })
    }

    /// Whether the model may be shipped.
    ///
    /// # Errors
    ///
    /// If it gets a single-digit sum or too many of the held-out sums wrong.
    pub(crate) fn require(&self) -> Result<()> {
        if self.held_out.right * 1000 < self.held_out.asked * REQUIRED_PER_MILLE {
            let reason = format!("held-out sums: {}, required are {REQUIRED_PER_MILLE} of 1000", self.held_out);
            return Err(Error::Refused(reason));
        }
        if self.single_digit.right < self.single_digit.asked {
            let reason = format!("single-digit sums: {}, required are all", self.single_digit);
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
fn score(model: &Transformer, pairs: &[(u32, u32)]) -> Result<Score> {
    let mut by_length: BTreeMap<usize, Vec<(u32, u32)>> = BTreeMap::new();
    for &(a, b) in pairs {
        by_length.entry(sums::prompt(a, b).len()).or_default().push((a, b));
    }
    let mut right = 0;
    for pairs in by_length.values().flat_map(|pairs| pairs.chunks(BATCH)) {
        let answers = answer(model, pairs)?;
        right +=
            pairs.iter().zip(answers).filter(|((a, b), answer)| answer.as_ref() == Some(&sums::answer(*a, *b))).count();
    }
    Ok(Score { right, asked: pairs.len() })
}

/// The greedy answers to sums whose prompts are equally long; none for one that does not end.
fn answer(model: &Transformer, pairs: &[(u32, u32)]) -> Result<Vec<Option<String>>> {
    let mut rows = pairs.iter().map(|&(a, b)| vocabulary::encode(&sums::prompt(a, b))).collect::<Result<Vec<_>>>()?;
    let prompt_length = rows.first().map_or(0, Vec::len);
    for length in prompt_length..prompt_length + LONGEST_ANSWER {
        let last: Vec<u32> =
            (1..=rows.len()).map(|row| u32::try_from(row * length - 1)).collect::<std::result::Result<_, _>>()?;
        let tokens = Tensor::from_vec(rows.concat(), (rows.len(), length), &Device::Cpu)?;
        let logits = model.logits(&tokens, &Tensor::new(last, &Device::Cpu)?)?;
        let next = logits.argmax(D::Minus1)?.to_vec1::<u32>()?;
        for (row, token) in rows.iter_mut().zip(next) {
            row.push(token);
        }
    }
    Ok(rows.iter().map(|row| vocabulary::decode_answer(row.get(prompt_length..).unwrap_or_default())).collect())
}
