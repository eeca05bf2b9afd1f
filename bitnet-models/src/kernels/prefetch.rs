//! Asking for memory before it is read.
//!
//! `unsafe` here: the instruction takes a pointer. It reads nothing and cannot fail, wherever the pointer points.
#![allow(unsafe_code)]

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

/// Bytes between what is asked for and what is read: some hundred nanoseconds.
const AHEAD: usize = 2048;

/// Bytes that come from memory together.
pub(super) const LINE: usize = 64;

/// Places that a thread reads at the same time: from one place alone a processor does not have enough lines on their way.
pub(super) const STREAMS: usize = 4;

/// Asks for the lines of `count` that are read some time after the bytes at `from`.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn ahead(from: *const u8, count: usize) {
    for line in 0..count {
        let line = from.wrapping_add(AHEAD + LINE * line).cast();
        #[allow(unused_unsafe)] // safe in newer compilers than the oldest that is supported
        // SAFETY: a prefetch of any address is allowed.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(line);
        }
    }
}
