//! `AdamW` in two groups, a clipped gradient, and a warm-up followed by a cosine.

use candle_core::Var;
use candle_core::backprop::GradStore;
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};

use crate::error::Result;
use crate::parameters::Parameters;

/// The highest learning rate.
const PEAK: f64 = 4e-3;

/// Steps in which the learning rate rises to [`PEAK`].
const WARM_UP: u32 = 200;

/// Weight decay of matrices and of the embedding; norms have none.
const WEIGHT_DECAY: f64 = 0.1;

/// Decay of the gradients' running mean.
const BETA1: f64 = 0.9;

/// Decay of the squared gradients' running mean.
const BETA2: f64 = 0.98;

/// The largest L2 norm of all gradients together.
const LARGEST_GRADIENT: f64 = 1.0;

/// Updates the parameters with their gradients.
pub(crate) struct Optimizer {
    variables: Vec<Var>,
    groups: [AdamW; 2],
    steps: u32,
}

impl Optimizer {
    /// An optimizer that reaches a learning rate of 0 after `steps`.
    ///
    /// # Errors
    ///
    /// If its moments cannot be made.
    pub(crate) fn new(parameters: &Parameters, steps: u32) -> Result<Self> {
        let variables: Vec<Var> = parameters.iter().map(|(_, var)| var.clone()).collect();
        let (matrices, gains) = variables.iter().cloned().partition(|var| var.rank() > 1);
        let group = |variables: Vec<Var>, weight_decay: f64| {
            let settings = ParamsAdamW { lr: 0.0, beta1: BETA1, beta2: BETA2, eps: 1e-8, weight_decay };
            AdamW::new(variables, settings)
        };
        Ok(Self { groups: [group(matrices, WEIGHT_DECAY)?, group(gains, 0.0)?], variables, steps })
    }

    /// Takes one step; `step` counts from 0.
    ///
    /// # Errors
    ///
    /// If the gradients do not fit the parameters.
    pub(crate) fn step(&mut self, step: u32, mut gradients: GradStore) -> Result<()> {
        self.clip(&mut gradients)?;
        let rate = learning_rate(step, self.steps);
        for group in &mut self.groups {
            group.set_learning_rate(rate);
            group.step(&gradients)?;
        }
        Ok(())
    }

    /// Scales all gradients down together if their norm is too large.
    fn clip(&self, gradients: &mut GradStore) -> Result<()> {
        let mut squares = 0.0;
        for variable in &self.variables {
            if let Some(gradient) = gradients.get(variable) {
                squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
            }
        }
        let norm = f64::sqrt(squares);
        if norm <= LARGEST_GRADIENT {
            return Ok(());
        }
        for variable in &self.variables {
            if let Some(gradient) = gradients.remove(variable) {
                gradients.insert(variable, (gradient * (LARGEST_GRADIENT / norm))?);
            }
        }
        Ok(())
    }
}

/// The learning rate of a step: linear up to [`PEAK`], then half a cosine down to 0.
fn learning_rate(step: u32, steps: u32) -> f64 {
    if step < WARM_UP {
        return PEAK * f64::from(step + 1) / f64::from(WARM_UP);
    }
    let done = f64::from(step - WARM_UP) / f64::from(steps.saturating_sub(WARM_UP).max(1));
    PEAK * 0.5 * (1.0 + (std::f64::consts::PI * done.min(1.0)).cos())
}
