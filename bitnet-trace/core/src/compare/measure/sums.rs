//! Sums over pairs of elements, and the norms that follow from them.
#![allow(clippy::float_cmp)] // only compared with an exact zero

use super::super::verdict::Share;

/// The number of worst tokens and channels that are named.
const NAMED: usize = 3;

/// A longer dimension is not examined for tokens or channels: their sums would take as much memory as the tensor.
const MOST_PLACES: usize = 1 << 20;

/// Sums over pairs of elements.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sums {
    pub(super) count: usize,
    pub(super) error: f64,
    pub(super) reference: f64,
    pub(super) trace: f64,
    product: f64,
    pub(super) absolute: f64,
}

impl Sums {
    /// Adds a pair of elements. `error` is their difference, which for large integers is not `x - y` in f64.
    pub(crate) fn add(&mut self, x: f64, y: f64, error: f64) {
        self.count += 1;
        self.error += error * error;
        self.reference += x * x;
        self.trace += y * y;
        self.product += x * y;
        self.absolute += error.abs();
    }

    /// |a - b| / |a|: 0 if both sides are zero, infinite if only the reference is.
    pub(crate) fn rel_l2(&self) -> f64 {
        relative(self.error, self.reference)
    }

    /// The cosine of the angle between the sides: 1 if both are zero, 0 if one is.
    pub(crate) fn cosine(&self) -> f64 {
        if self.reference == 0.0 && self.trace == 0.0 {
            return 1.0;
        }
        let norms = self.reference.sqrt() * self.trace.sqrt();
        if norms == 0.0 { 0.0 } else { (self.product / norms).clamp(-1.0, 1.0) }
    }

    /// The factor that brings the reference nearest to the trace; `None` if a side is zero.
    pub(crate) fn ratio(&self) -> Option<f64> {
        (self.reference > 0.0 && self.trace > 0.0).then(|| self.product / self.reference)
    }

    /// The part of the trace that this factor does not explain, relative to the trace. The computation cancels, so that
    /// a small result may be rounding.
    pub(crate) fn left(&self) -> f64 {
        let explained = self.product * (self.product / self.reference);
        ((self.trace - explained).max(0.0) / self.trace).sqrt()
    }
}

fn relative(error: f64, reference: f64) -> f64 {
    if error == 0.0 { 0.0 } else { (error / reference).sqrt() }
}

/// The errors of the indices of the last dimension but one (tokens) and of the last (channels).
pub(super) struct Shares {
    channels: usize,
    tokens: usize,
    /// The sums of squares of error and reference.
    by_token: Vec<(f64, f64)>,
    by_channel: Vec<(f64, f64)>,
    /// The indices of the next element.
    token: usize,
    channel: usize,
}

impl Shares {
    pub(super) fn new(dims: &[usize]) -> Self {
        let (tokens, channels) = match dims {
            [.., tokens, channels] => (*tokens, *channels),
            _ => (1, usize::MAX),
        };
        let of = |places: usize| vec![(0.0, 0.0); if dims.len() > 1 && places <= MOST_PLACES { places } else { 0 }];
        Self { channels, tokens, by_token: of(tokens), by_channel: of(channels), token: 0, channel: 0 }
    }

    /// Adds the next element, as the reference's element and the error. `None` skips it.
    pub(super) fn add(&mut self, element: Option<(f64, f64)>) {
        if let Some((x, error)) = element {
            let (error, x) = (error * error, x * x);
            for sums in [self.by_token.get_mut(self.token), self.by_channel.get_mut(self.channel)].into_iter().flatten()
            {
                sums.0 += error;
                sums.1 += x;
            }
        }
        self.channel += 1;
        if self.channel == self.channels {
            self.channel = 0;
            self.token += 1;
            if self.token == self.tokens {
                self.token = 0;
            }
        }
    }

    /// The worst tokens and the worst channels.
    pub(super) fn worst(&self) -> [Vec<Share>; 2] {
        [&self.by_token, &self.by_channel].map(|sums| {
            let errors = sums.iter().map(|(error, reference)| relative(*error, *reference)).enumerate();
            let mut worst: Vec<Share> = Vec::with_capacity(NAMED + 1);
            for (index, rel_l2) in errors.filter(|(_, error)| *error > 0.0) {
                let place = worst.partition_point(|other| other.rel_l2 >= rel_l2);
                if place < NAMED {
                    worst.insert(place, Share { index, rel_l2 });
                    worst.truncate(NAMED);
                }
            }
            worst
        })
    }
}
