//! The definition of the digest as a slow reference implementation: element by element, all in memory.

use crate::digest::sketch::splitmix64;
use crate::digest::{Digest, Kernel, Wanted, digest_with};

use super::{Layout, Storage};

/// A digest in a form that compares bit by bit.
#[derive(Debug, PartialEq, Clone)]
pub(super) struct Expected {
    pub(super) blake3: String,
    pub(super) raw_blake3: Option<String>,
    pub(super) rms: Option<u64>,
    pub(super) mean: Option<u64>,
    pub(super) min: Option<u64>,
    pub(super) max: Option<u64>,
    pub(super) counts: [usize; 3],
    pub(super) sketch: Vec<u32>,
    pub(super) rows: Vec<String>,
}

pub(super) const EVERYTHING: Wanted = Wanted { sketch: true, rows: true };

/// The digest that a kernel computes.
pub(super) fn found(kernel: Kernel, storage: &Storage, layout: &Layout) -> Expected {
    let view = layout.view(storage);
    let found = digest_with(kernel, &view, EVERYTHING);
    let plain = digest_with(kernel, &view, Wanted::default());
    assert_eq!((plain.blake3, plain.raw_blake3), (found.blake3, found.raw_blake3));
    assert!(plain.sketch.is_none() && plain.rows.is_none());
    found.into()
}

impl From<Digest> for Expected {
    fn from(found: Digest) -> Self {
        let statistics = &found.statistics;
        let rms = statistics.rms();
        Self {
            blake3: found.blake3.to_hex().to_string(),
            raw_blake3: found.raw_blake3.map(|hash| hash.to_hex().to_string()),
            rms: (!rms.is_nan()).then(|| rms.to_bits()),
            mean: statistics.mean().map(f64::to_bits),
            min: statistics.min().map(f64::to_bits),
            max: statistics.max().map(f64::to_bits),
            counts: [statistics.nan_count, statistics.inf_count, statistics.zero_count],
            sketch: found.sketch.expect("wanted").iter().map(|sum| sum.to_bits()).collect(),
            rows: found.rows.expect("wanted").iter().map(|row| hex(row)).collect(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The digest of f32 elements in logical order by the definition.
pub(super) fn expected(values: &[f32], row: usize) -> Expected {
    let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let finite: Vec<f32> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let cleaned: Vec<f32> = values.iter().map(|value| if value.is_finite() { *value } else { 0.0 }).collect();
    let extreme =
        |pick: fn(f32, f32) -> f32| finite.iter().copied().reduce(pick).map(|x| (f64::from(x) + 0.0).to_bits());
    let rms = (in_lanes(&cleaned, |x| x * x) / count(values.len())).sqrt();
    Expected {
        blake3: blake3::hash(&bytes(values)).to_hex().to_string(),
        raw_blake3: None,
        rms: match (values.len(), finite.len()) {
            (0, _) => Some(0),
            (all, finite) => (all == finite).then_some(rms.to_bits()),
        },
        mean: (!finite.is_empty()).then(|| (in_lanes(&cleaned, |x| x) / count(finite.len())).to_bits()),
        min: extreme(f32::min),
        max: extreme(f32::max),
        counts: [
            values.iter().filter(|x| x.is_nan()).count(),
            values.iter().filter(|x| x.is_infinite()).count(),
            values.iter().filter(|x| **x == 0.0).count(),
        ],
        sketch: sketch(&cleaned),
        rows: values.chunks(row.max(1)).map(|row| hex(&blake3::hash(&bytes(row)).as_bytes()[..8])).collect(),
    }
}

fn in_lanes(values: &[f32], of: fn(f64) -> f64) -> f64 {
    let mut total = 0.0;
    for sub_block in values.chunks(4096) {
        let mut lanes = [0.0; 16];
        for (index, value) in sub_block.iter().enumerate() {
            lanes[index % 16] += of(f64::from(*value));
        }
        for width in [8, 4, 2, 1] {
            for lane in 0..width {
                lanes[lane] += lanes[lane + width];
            }
        }
        total += lanes[0];
    }
    total
}

#[allow(clippy::cast_possible_truncation)] // rounding to f32 is the definition
fn sketch(values: &[f32]) -> Vec<u32> {
    let mut totals = [0.0; 64];
    for (block, sub_block) in values.chunks(4096).enumerate() {
        let mut buckets = [0f32; 64];
        for (index, value) in sub_block.iter().enumerate() {
            let (row, column) = ((block * 64 + index / 64) as u64, index as u64 % 64);
            let plus = (splitmix64(row) >> column) & 1 == 1;
            let bucket = column ^ (splitmix64((1 << 40) + row) % 64);
            let bucket = &mut buckets[usize::try_from(bucket).expect("below 64")];
            *bucket += if plus { *value } else { -*value };
        }
        for (total, bucket) in totals.iter_mut().zip(buckets) {
            *total += f64::from(bucket);
        }
    }
    let limit = f64::from(f32::MAX);
    totals.map(|total: f64| if total.is_nan() { 0.0 } else { total.clamp(-limit, limit) as f32 }.to_bits()).to_vec()
}

#[allow(clippy::cast_precision_loss)] // small
fn count(elements: usize) -> f64 {
    elements as f64
}
