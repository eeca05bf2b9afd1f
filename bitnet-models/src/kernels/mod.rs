//! Products with matrices that stay as they are stored: ternary weights of 2 bits and less, and float matrices.
//!
//! A product has one result whatever computes it: this module's portable code, AVX2 or AVX-512, one thread or many, one
//! token or a prompt. Ternary products are sums of integers, which are exact in any order. Float products
//! add in an order that is part of their definition, see [`float`].

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx2_float;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_float;
mod dispatch;
pub mod float;
mod packing;
pub(crate) mod parallel;
mod portable;
#[cfg(target_arch = "x86_64")]
mod prefetch;
mod ternary;

pub use activations::{Activations, quantize_activations};
pub use dispatch::Kernel;
pub(crate) use dispatch::Level;
pub use float::{FloatMatrix, FloatType};
pub use packing::{Packing, PackingError};
pub use parallel::awake;
pub use ternary::TernaryMatrix;

#[cfg(test)]
mod tests;
