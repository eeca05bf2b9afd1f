//! BitNet b1.58 on [candle](candle_core): ternary weights, int8 activations, float32 around them.
//!
//! The architecture is that of `BitNetForCausalLM` (Hugging Face transformers, `models/bitnet`;
//! paper: "BitNet b1.58 2B4T Technical Report", arXiv 2504.12285). Every computation is a function
//! with `#[traced]`. With the feature `trace` its result is recorded; without the feature the crate
//! is the plain model.
//!
//! ```
//! use bitnet_models::{KvCache, Transformer, tiny};
//!
//! # fn main() -> bitnet_models::Result<()> {
//! let checkpoint = tiny::checkpoint()?;
//! let model = Transformer::load(&checkpoint)?;
//! let prompt = checkpoint.tokenizer()?.encode("1+2=")?;
//! let mut cache = KvCache::new(&checkpoint.config);
//! let logits = model.forward_full(&prompt, &mut cache)?; // [1, 4, vocabulary]
//! assert_eq!(logits.dims(), [1, 4, checkpoint.config.vocab_size]);
//! # Ok(())
//! # }
//! ```

mod attention;
pub mod bit_linear;
mod block;
mod bytes;
pub mod chat;
pub mod checkpoint;
mod config;
mod error;
mod feed_forward;
pub mod generate;
pub mod kernels;
mod kv_cache;
mod linear;
mod rms_norm;
mod rope;
pub mod synth;
mod tensors;
pub mod tiny;
mod tokenizer;
mod transformer;

pub use checkpoint::Checkpoint;
pub use config::{Activation, Config, Flavour};
pub use error::{Error, Result};
pub use kv_cache::KvCache;
pub use linear::Linear;
pub use tokenizer::{TextStream, Tokenizer, Vocabulary};
pub use transformer::Transformer;
