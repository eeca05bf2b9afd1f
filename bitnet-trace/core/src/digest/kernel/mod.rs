//! The loops that read every element: one module per instruction set, all with the same bits as their result.
//!
//! `unsafe` is needed because a function compiled for an instruction set may run only on a processor that has
//! it. A [`Kernel`] proves that: its values come only from detection.
//!
//! There is no kernel for AVX-512, although BLAKE3 uses it. Arithmetic on 512-bit registers lowers the clock for
//! the hash and the model too (on Sapphire Rapids BLAKE3 next to it took a tenth longer, more than the kernel
//! saved), and its instructions on 256-bit registers gained nothing.
#![allow(unsafe_code)]
// Inlining compiles the shared parts for each instruction set.
#![allow(clippy::inline_always)]

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use super::constants::{BUCKETS, SUB_BLOCK};

/// Number of lanes: element i of a sub-block is added to lane i mod 16.
const LANES: usize = 16;

/// The statistics of one sub-block. If `sum_of_squares` is not finite, some element is not finite and the other
/// fields are meaningless: squares of finite f32 cannot overflow f64.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubBlock {
    pub(crate) sum: f64,
    pub(crate) sum_of_squares: f64,
    /// Smallest element, infinity if there are no elements; a zero may have either sign.
    pub(crate) min: f32,
    /// Largest element, minus infinity if there are no elements; a zero may have either sign.
    pub(crate) max: f32,
    pub(crate) zeros: usize,
}

/// The instruction set that the loops use; this processor supports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kernel(Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

/// Calls the function of the kernel's module.
macro_rules! dispatch {
    ($kernel:expr, $function:ident($($argument:expr),*)) => {
        match $kernel.0 {
            Set::Portable => portable::$function($($argument),*),
            // SAFETY: `Kernel::avx2` found the features that the module is compiled for.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::$function($($argument),*) },
        }
    };
}

impl Kernel {
    /// Plain Rust, for every processor.
    #[must_use]
    pub fn portable() -> Self {
        Self(Set::Portable)
    }

    /// AVX2 with FMA and F16C; `None` if this processor does not support all three.
    #[must_use]
    pub fn avx2() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            return Some(Self(Set::Avx2));
        }
        None
    }

    /// The fastest kernel for this processor. Calling it is cheap: the standard library caches the detection.
    #[must_use]
    pub fn best() -> Self {
        Self::avx2().unwrap_or_else(Self::portable)
    }

    /// All kernels for this processor.
    pub fn available() -> impl Iterator<Item = Self> {
        [Some(Self::portable()), Self::avx2()].into_iter().flatten()
    }

    /// Statistics of a sub-block.
    pub(crate) fn statistics(self, values: &[f32]) -> SubBlock {
        debug_assert!(values.len() <= SUB_BLOCK, "{} elements", values.len());
        dispatch!(self, statistics(values))
    }

    /// Adds the buckets of a sub-block of finite elements to `totals`. The first element of the sub-block is the
    /// first of sketch row `first_row`.
    pub(crate) fn sketch(self, values: &[f32], first_row: u64, totals: &mut [f64; BUCKETS]) {
        debug_assert!(values.len() <= SUB_BLOCK, "{} elements", values.len());
        dispatch!(self, sketch(values, first_row, totals));
    }

    /// Converts bf16 bits to f32 as the crate `half` does: signalling NaNs become quiet.
    pub(crate) fn widen_bf16(self, from: &[u16], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many elements out as in");
        dispatch!(self, widen_bf16(from, to));
    }

    /// Converts IEEE half precision bits to f32 as the crate `half` does.
    pub(crate) fn widen_f16(self, from: &[u16], to: &mut [f32]) {
        assert_eq!(from.len(), to.len(), "as many elements out as in");
        dispatch!(self, widen_f16(from, to));
    }
}

/// A table whose row m has (lane XOR m) in every lane: the permutation that moves columns to their buckets within
/// a register.
#[cfg(target_arch = "x86_64")]
#[allow(clippy::cast_possible_truncation)] // at most 16 lanes
const fn xor_table<const WIDTH: usize>() -> [[u32; WIDTH]; WIDTH] {
    let mut table = [[0; WIDTH]; WIDTH];
    let mut mask = 0;
    while mask < WIDTH {
        let mut lane = 0;
        while lane < WIDTH {
            table[mask][lane] = (lane ^ mask) as u32;
            lane += 1;
        }
        mask += 1;
    }
    table
}
