//! The sums of the tiny model: which it was trained on and which were held out.
//!
//! The tiny model continues `12+34=` with `46`. There are 10,000 such sums of two numbers from 0 to
//! [`LARGEST`]. The program that trains the model and the tests that score it both take their sums
//! from here, so that the model has really never seen a held-out sum, in either order.

/// The largest number that is added.
pub(crate) const LARGEST: u32 = 99;

/// How many sums are held out.
pub(crate) const HELD_OUT: usize = 500;

/// The seed of the shuffle that chooses the held-out sums: "SUMS" in ASCII.
const SPLIT_SEED: u64 = 0x5355_4D53;

/// Numbers below this have a single digit.
const SINGLE_DIGIT_END: u32 = 10;

/// The sums the model must not have seen: exactly [`HELD_OUT`] pairs `(a, b)`, no two of them mirrors.
///
/// The choice is deterministic. Sums of two single digits are never held out: they are 1 % of all
/// sums, too few to be learnt from the rest, and the model is expected to know every one of them.
pub(crate) fn held_out() -> Vec<(u32, u32)> {
    let mut candidates: Vec<(u32, u32)> = all().into_iter().filter(|&(a, b)| a <= b && b >= SINGLE_DIGIT_END).collect();
    let mut random = SplitMix64(SPLIT_SEED);
    random.shuffle(&mut candidates);
    candidates.truncate(HELD_OUT);
    for pair in &mut candidates {
        if random.next_u64() & 1 == 1 {
            *pair = (pair.1, pair.0);
        }
    }
    candidates
}

/// The sums to train on: all but the held-out pairs and their mirrors, in ascending order.
///
/// If `(a, b)` is held out then `(b, a)` is not trained on either: it has the same answer.
pub(crate) fn training() -> Vec<(u32, u32)> {
    let held_out: std::collections::HashSet<(u32, u32)> = held_out().into_iter().collect();
    all().into_iter().filter(|&(a, b)| !held_out.contains(&(a, b)) && !held_out.contains(&(b, a))).collect()
}

/// The 100 sums of two single digits, all of them part of [`training`].
pub(crate) fn single_digit() -> Vec<(u32, u32)> {
    all().into_iter().filter(|&(a, b)| is_single_digit(a, b)).collect()
}

/// Whether both numbers have one digit.
pub(crate) fn is_single_digit(a: u32, b: u32) -> bool {
    a < SINGLE_DIGIT_END && b < SINGLE_DIGIT_END
}

/// The prompt: `a+b=`, plain decimal without padding.
pub(crate) fn prompt(a: u32, b: u32) -> String {
    format!("{a}+{b}=")
}

/// The expected answer before the end token: the sum, plain decimal.
pub(crate) fn answer(a: u32, b: u32) -> String {
    (a + b).to_string()
}

/// Every pair of numbers from 0 to [`LARGEST`], in ascending order.
fn all() -> Vec<(u32, u32)> {
    (0..=LARGEST).flat_map(|a| (0..=LARGEST).map(move |b| (a, b))).collect()
}

/// The splitmix64 generator (Steele, Lea and Flood, "Fast splittable pseudorandom number
/// generators", 2014), written out so that the split never depends on a library's version.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Fisher-Yates. The remainder's bias is below 1e-15 for lists of this length.
    fn shuffle<T>(&mut self, items: &mut [T]) {
        let mut choices = 1_u64;
        for last in 1..items.len() {
            choices += 1;
            let chosen = self.next_u64() % choices;
            items.swap(last, usize::try_from(chosen).unwrap_or(last));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HELD_OUT, answer, held_out, is_single_digit, prompt, single_digit, training};
    use std::collections::HashSet;

    #[test]
    fn no_held_out_sum_is_trained_on_in_either_order() {
        let held_out = held_out();
        let training: HashSet<(u32, u32)> = training().into_iter().collect();
        assert_eq!(held_out.len(), HELD_OUT);
        let distinct: HashSet<(u32, u32)> = held_out.iter().map(|&(a, b)| (a.min(b), a.max(b))).collect();
        assert_eq!(distinct.len(), HELD_OUT);
        for (a, b) in held_out {
            assert!(!training.contains(&(a, b)), "{a}+{b}");
            assert!(!training.contains(&(b, a)), "{b}+{a}");
        }
    }

    #[test]
    fn every_sum_is_trained_on_or_held_out_or_the_mirror_of_one() {
        let mut seen: HashSet<(u32, u32)> = training().into_iter().collect();
        for (a, b) in held_out() {
            seen.insert((a, b));
            seen.insert((b, a));
        }
        assert_eq!(seen.len(), 10_000);
    }

    #[test]
    fn single_digit_sums_are_all_trained_on() {
        let training: HashSet<(u32, u32)> = training().into_iter().collect();
        assert_eq!(single_digit().len(), 100);
        assert!(single_digit().iter().all(|pair| training.contains(pair)));
        assert!(held_out().iter().all(|&(a, b)| !is_single_digit(a, b)));
    }

    /// The shipped checkpoint was trained on exactly this split.
    #[test]
    fn the_split_never_changes() {
        let held_out = held_out();
        assert_eq!(held_out.first(), Some(&(34, 59)));
        assert_eq!(held_out.last(), Some(&(18, 59)));
        assert_eq!(held_out.iter().map(|&(a, b)| a + b).sum::<u32>(), 49_786);
        assert_eq!(training().len(), 9_009);
    }

    #[test]
    fn texts_are_plain_decimal() {
        assert_eq!(prompt(12, 34), "12+34=");
        assert_eq!(answer(99, 99), "198");
    }
}
