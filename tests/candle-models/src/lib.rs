//! Models of candle-transformers as they are published, each with the lines that annotate it.
//!
//! `build/main.rs` copies the files from the crate's source in Cargo's registry; nothing of them lies in this
//! repository. `build/annotations.rs` holds every line that is added.
//!
//! * `plain`: the files without a change.
//! * `models`: what `bitnet-trace init` makes of them.
//! * `by_hand`: `quantized_llama` with four lines: what a block binds, and no more. `llama` and `qwen2` with a stage for
//!   each value that has one, so that their traces need no map.

// Their name for it.
extern crate candle_core as candle;

include!(concat!(env!("OUT_DIR"), "/modules.rs"));
