//! Prints the bits of every logit of a prompt, prefill and decode. Two builds that compute the same
//! numbers print the same text.
//!
//! `cargo run --release --example logits`

use std::io::{self, Write};

use bitnet_models::{KvCache, Transformer, tiny};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let checkpoint = tiny::checkpoint()?;
    let model = Transformer::load(&checkpoint)?;
    let tokens = checkpoint.tokenizer()?.encode("12+34=46")?;
    let (prompt, answer) = tokens.split_at(6);
    let mut cache = KvCache::new(model.config());
    let mut logits = vec![model.forward_full(prompt, &mut cache)?];
    for token in answer {
        logits.push(model.forward_incremental(*token, &mut cache)?);
    }
    let mut out = io::stdout().lock();
    for step in logits {
        for value in step.flatten_all()?.to_vec1::<f32>()? {
            writeln!(out, "{:08x}", value.to_bits())?;
        }
    }
    Ok(())
}
