//! The training loop: two halves of a batch on two threads, their gradients summed.

use std::thread;

use candle_core::backprop::GradStore;
use candle_nn::loss::cross_entropy;
use indicatif::{ProgressBar, ProgressStyle};

use crate::data::{Batch, Sampler};
use crate::error::{Error, Result};
use crate::model::Transformer;
use crate::optimizer::Optimizer;

/// The number of examples that a thread works on. There are always two threads, so that the sums, and with
/// them the checkpoint, do not depend on the number of processors.
const HALF_BATCH: usize = 64;

/// The steps between two losses that are printed if there is no terminal.
const REPORT_EVERY: u32 = 500;

/// The weight of a new loss in the average that is shown.
const SMOOTHING: f64 = 0.02;

/// Trains `model`, whose variables `optimizer` holds, for `steps`.
///
/// # Errors
///
/// If an operation fails or a thread panics.
pub(crate) fn train(model: &Transformer, optimizer: &mut Optimizer, sampler: &mut Sampler, steps: u32) -> Result<()> {
    let bar = ProgressBar::new(u64::from(steps)).with_style(style());
    let mut shown = None;
    for step in 0..steps {
        let halves = (sampler.batch(HALF_BATCH)?, sampler.batch(HALF_BATCH)?);
        let (loss, gradients) = gradients(model, &halves)?;
        optimizer.step(step, gradients)?;

        let average = shown.map_or(loss, |shown| shown + SMOOTHING * (loss - shown));
        shown = Some(average);
        bar.inc(1);
        bar.set_message(format!("loss {average:.4}"));
        if bar.is_hidden() && (step + 1) % REPORT_EVERY == 0 {
            eprintln!("step {} of {steps}: loss {average:.4}", step + 1);
        }
    }
    bar.finish();
    Ok(())
}

/// The loss of a batch per prediction, and its gradients.
fn gradients(model: &Transformer, halves: &(Batch, Batch)) -> Result<(f64, GradStore)> {
    let total = halves.0.predictions + halves.1.predictions;
    let (first, second) = thread::scope(|scope| {
        let second = scope.spawn(|| half(model, &halves.1, total));
        let first = half(model, &halves.0, total);
        (first, second.join().map_err(|_| Error::Thread))
    });
    let (mut loss, mut gradients) = first?;
    let (second_loss, second_gradients) = second??;
    loss += second_loss;
    gradients.extend(second_gradients)?;
    Ok((loss, gradients))
}

/// The share of one half in the mean loss over `total` predictions, and its gradients.
fn half(model: &Transformer, batch: &Batch, total: u32) -> Result<(f64, GradStore)> {
    let logits = model.logits(&batch.tokens, &batch.positions)?;
    let share = f64::from(batch.predictions) / f64::from(total);
    let loss = (cross_entropy(&logits, &batch.targets)? * share)?;
    let gradients = loss.backward()?;
    Ok((f64::from(loss.to_scalar::<f32>()?), gradients))
}

/// The style of the progress bar; the default style if the template is wrong.
fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {pos}/{len} steps, {msg}, {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
