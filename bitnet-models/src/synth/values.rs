//! The numbers of a synthetic checkpoint: a function of seed, tensor and row, so that every format holds the same ones and
//! rows can be made in any order.

/// The most negative exponent of a scale's leading bit: below it float16 is no longer normal.
const LEAST_EXPONENT: i32 = -14;

/// A stream of random bits (splitmix64, Steele et al., "Fast splittable pseudorandom number generators", 2014). Of its
/// own, because files of equal seed must stay equal with every version of a random number crate.
struct Stream(u64);

impl Stream {
    fn new(seed: u64, tensor: &str, row: usize) -> Self {
        // FNV-1a of the name.
        let name = tensor
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let mut of_tensor = Self(seed ^ name);
        Self(of_tensor.next() ^ row as u64)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

/// Fills a row with -1, 0 and +1, a third each.
#[allow(clippy::cast_possible_truncation)] // the low half of a product, and a digit
pub(super) fn ternary(seed: u64, tensor: &str, row: usize, to: &mut [i8]) {
    /// Digits to the base 3 that 64 bits hold.
    const DIGITS: usize = 40;
    let mut stream = Stream::new(seed, tensor, row);
    for chunk in to.chunks_mut(DIGITS) {
        let mut bits = stream.next();
        for value in chunk {
            let product = u128::from(bits) * 3;
            (bits, *value) = (product as u64, (product >> 64) as i8 - 1);
        }
    }
}

/// The scale of a ternary tensor with rows of `columns` values: between one and two times a power of two near
/// `1 / sqrt(columns)`, with seven bits after the leading one. So f16, bf16 and f32 hold it exactly.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // eight bits, and an exponent
pub(super) fn scale(seed: u64, tensor: &str, columns: usize) -> f32 {
    let exponent = ((columns as f64).log2() / -2.0).floor().max(f64::from(LEAST_EXPONENT)) as i32;
    let bits = Stream::new(seed, tensor, usize::MAX).next() % 128;
    (128 + bits) as f32 / 128.0 * 2f32.powi(exponent)
}

/// Fills a row with float master weights that become these ternary values and nearly this scale when they are quantised:
/// a zero is at most 0.4 of the scale, another value 0.8 to 2 of it, so that the mean magnitude is the scale.
#[allow(clippy::cast_possible_truncation)] // sixteen random bits of 64
pub(super) fn master(seed: u64, tensor: &str, row: usize, scale: f32, ternary: &[i8], to: &mut Vec<f32>) {
    let mut stream = Stream::new(seed ^ 1, tensor, row);
    for values in ternary.chunks(4) {
        let mut bits = stream.next();
        for value in values {
            let signed = f32::from((bits as i16) >> 1) / f32::from(i16::MAX >> 1);
            bits >>= 16;
            let magnitude = match value {
                0 => 0.4 * signed,
                value => f32::from(*value) * (0.8 + 1.2 * signed.abs().min(1.0)),
            };
            to.push(magnitude * scale);
        }
    }
}

/// Fills a row of embeddings: multiples of 1/64 between -2 and 2, which f16, bf16 and f32 hold exactly.
pub(super) fn embedding(seed: u64, tensor: &str, row: usize, to: &mut [i8]) {
    let mut stream = Stream::new(seed, tensor, row);
    for chunk in to.chunks_mut(8) {
        let bytes = stream.next().to_le_bytes();
        chunk.iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte.cast_signed());
    }
}

/// An embedding's value.
pub(super) fn embedding_value(steps: i8) -> f32 {
    f32::from(steps) / 64.0
}

/// The weights of a norm: multiples of 1/128 between 0.75 and 1.25, which bf16 and f32 hold exactly.
#[allow(clippy::cast_precision_loss)] // below 2^8
pub(super) fn norm(seed: u64, tensor: &str, width: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, tensor, 0);
    (0..width).map(|_| (96 + stream.next() % 65) as f32 / 128.0).collect()
}

#[cfg(test)]
#[allow(clippy::float_cmp)] // exact
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // small numbers
mod tests {
    use half::{bf16, f16};

    use super::{master, norm, scale, ternary};

    #[test]
    fn scales_and_norms_are_exact_in_every_type() {
        for columns in [256, 2560, 6912] {
            let scale = scale(7, &columns.to_string(), columns);
            assert!(f16::from_f32(scale).to_f32() == scale && bf16::from_f32(scale).to_f32() == scale, "{scale}");
        }
        assert!(norm(7, "x", 64).iter().all(|value| bf16::from_f32(*value).to_f32() == *value));
    }

    #[test]
    fn master_weights_become_their_ternary_values() {
        let (rows, columns) = (64, 256);
        let (mut values, mut weights, scale) = (vec![0; rows * columns], Vec::new(), scale(3, "x", columns));
        for (index, row) in values.chunks_mut(columns).enumerate() {
            ternary(3, "x", index, row);
            master(3, "x", index, scale, row, &mut weights);
        }
        let weights: Vec<f32> = weights.iter().map(|weight| bf16::from_f32(*weight).to_f32()).collect();
        let mean = weights.iter().map(|weight| weight.abs()).sum::<f32>() / weights.len() as f32;
        assert!((mean / scale - 1.0).abs() < 0.02, "{mean} for {scale}");
        let again: Vec<i8> = weights.iter().map(|weight| (weight / mean).round().clamp(-1.0, 1.0) as i8).collect();
        assert!(again == values);
        let count = |wanted: i8| values.iter().filter(|value| **value == wanted).count();
        assert!([-1, 0, 1].iter().all(|value| count(*value).abs_diff(rows * columns / 3) < 400));
    }
}
