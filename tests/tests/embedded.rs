//! The embedded model adds, by the project's own integer path.

use bitnet_models::generate::{Options, generate};
use bitnet_models::tiny::{self, sums};
use bitnet_models::{Tokenizer, Transformer};

struct Adder {
    model: Transformer,
    tokenizer: Tokenizer,
}

impl Adder {
    fn new() -> Self {
        let checkpoint = tiny::checkpoint().expect("the embedded checkpoint");
        Self {
            model: Transformer::load(&checkpoint).expect("all tensors"),
            tokenizer: checkpoint.tokenizer().expect("a tokenizer"),
        }
    }

    /// The sums of which greedy decoding gives another answer.
    fn wrong(&self, pairs: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let wrong = |&(a, b): &(u32, u32)| {
            let prompt = self.tokenizer.encode(&sums::prompt(a, b)).expect("digits and signs");
            let generated = generate(&self.model, &prompt, &Options::default()).expect("an answer");
            self.tokenizer.decode(&generated).expect("text") != sums::answer(a, b)
        };
        pairs.iter().copied().filter(wrong).collect()
    }
}

/// 99.5 % of 500.
#[test]
fn sums_it_has_not_seen() {
    let held_out = sums::held_out();
    assert_eq!(held_out.len(), 500);
    let wrong = Adder::new().wrong(&held_out);
    assert!(wrong.len() * 1000 <= held_out.len() * 5, "wrong: {wrong:?}");
}

#[test]
fn every_sum_of_single_digits() {
    let pairs = sums::single_digit();
    assert_eq!(pairs.len(), 100);
    assert_eq!(Adder::new().wrong(&pairs), []);
}

/// It stands in the repository and in every binary.
#[test]
fn the_checkpoint_is_small() {
    let directory = bitnet_trace_tests::repository().join("bitnet-models/src/tiny");
    let files = ["config.json", "model.safetensors", "tokenizer.json"];
    let size: u64 = files.iter().map(|file| directory.join(file).metadata().expect("the file").len()).sum();
    assert!(size <= 200 * 1024, "{size} bytes");
}
