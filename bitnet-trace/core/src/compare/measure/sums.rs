//! Sums over pairs of elements, and the norms they give.
#![allow(clippy::float_cmp)] // zero is zero

use super::super::verdict::Share;

/// How many of the worst tokens and channels are named.
const NAMED: usize = 3;

/// A dimension with more places has no tokens or channels: their sums would take as much memory as
/// the tensor.
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
    /// `error` is their difference: of integers it is not that of the two f64.
    pub(crate) fn add(&mut self, x: f64, y: f64, error: f64) {
        self.count += 1;
        self.error += error * error;
        self.reference += x * x;
        self.trace += y * y;
        self.product += x * y;
        self.absolute += error.abs();
    }

    /// |a - b| / |a|; 0 for two zeros, infinite where only the reference is zero.
    pub(crate) fn rel_l2(&self) -> f64 {
        relative(self.error, self.reference)
    }

    /// 1 for two zeros, 0 where one is zero.
    pub(crate) fn cosine(&self) -> f64 {
        if self.reference == 0.0 && self.trace == 0.0 {
            return 1.0;
        }
        let norms = self.reference.sqrt() * self.trace.sqrt();
        if norms == 0.0 { 0.0 } else { (self.product / norms).clamp(-1.0, 1.0) }
    }

    /// The factor for which factor times the reference is nearest to the trace; `None` where a side is
    /// zero.
    pub(crate) fn ratio(&self) -> Option<f64> {
        (self.reference > 0.0 && self.trace > 0.0).then(|| self.product / self.reference)
    }

    /// What is left of the trace beside that factor times the reference, relative to the trace. It
    /// cancels: what is small may be rounding.
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
    /// (error, reference).
    by_token: Vec<(f64, f64)>,
    by_channel: Vec<(f64, f64)>,
    /// Of the next element.
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

    /// The next element; without numbers it is left out.
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
