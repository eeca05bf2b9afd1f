//! Every byte of the heads of tiny files changed, and every beginning of them.

use std::fs;

use bitnet_models::Checkpoint;
use bitnet_models::synth::Format;
use bytes::Bytes;

use super::{load, synthetic};

/// Loads every variant of the first `head` bytes and counts those that are still accepted.
fn vary(whole: &[u8], head: usize, open: impl Fn(&Bytes) -> bitnet_models::Result<Checkpoint>) -> usize {
    let mut accepted = 0;
    for at in 0..head {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.to_vec();
            bytes[at] ^= change;
            // A message or a model; anything else is a panic here.
            accepted += usize::from(load(open(&bytes.into())).is_ok());
        }
        assert!(load(open(&Bytes::copy_from_slice(&whole[..at]))).is_err(), "the first {at} bytes are accepted");
    }
    for end in [head, head + 1, whole.len() / 2, whole.len() - 33, whole.len() - 1] {
        assert!(load(open(&Bytes::copy_from_slice(&whole[..end]))).is_err(), "the first {end} bytes are accepted");
    }
    accepted
}

#[test]
fn gguf() {
    let directory = synthetic(Format::Tq2_0);
    let whole = fs::read(directory.path().join("model")).expect("written");
    let last = b"output_norm.weight";
    let head = whole.windows(last.len()).position(|window| window == last).expect("the last tensor") + last.len();
    // Dimensions, type and offset of the last tensor.
    let head = head + 4 + 8 + 4 + 8;
    assert!((2000..4000).contains(&head), "{head}");
    let accepted = vary(&whole, head, |bytes| Checkpoint::from_gguf("x.gguf", bytes));
    // Changes of the name, of keys that have a default, of sizes that stay possible.
    assert!(accepted > 0 && accepted < head, "{accepted} of {head}");
}

#[test]
fn safetensors() {
    let directory = synthetic(Format::HfOffline);
    let config = fs::read(directory.path().join("model/config.json")).expect("written");
    let whole = fs::read(directory.path().join("model/model.safetensors")).expect("written");
    let head = 8 + usize::try_from(u64::from_le_bytes(*whole.first_chunk().expect("a length"))).expect("small");
    let accepted = vary(&whole, head, |bytes| Checkpoint::from_safetensors("x", &config, bytes));
    // Changes inside `__metadata__`, and of its name.
    assert!(accepted < head / 10, "{accepted} of {head}");
}

#[test]
fn config() {
    let directory = synthetic(Format::HfOffline);
    let config = fs::read(directory.path().join("model/config.json")).expect("written");
    let tensors = Bytes::from(fs::read(directory.path().join("model/model.safetensors")).expect("written"));
    for at in 0..config.len() {
        for change in [0x01, 0x80] {
            let mut bytes = config.clone();
            bytes[at] ^= change;
            let _ = load(Checkpoint::from_safetensors("x", &bytes, &tensors));
        }
        let _ = load(Checkpoint::from_safetensors("x", &config[..at], &tensors));
    }
}
