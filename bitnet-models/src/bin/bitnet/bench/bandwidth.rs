//! How fast a plain loop, on the same number of threads, reads memory.

use std::hint;
use std::time::{Duration, Instant};

use rayon::prelude::*;

/// Larger than the caches of the largest processors.
pub(crate) const BYTES: usize = 1 << 30;

/// Bytes that a thread reads in one go.
const PIECE: usize = 1 << 20;

/// A buffer to read, and the threads that read it.
pub(crate) struct Memory {
    words: Vec<u64>,
    threads: rayon::ThreadPool,
}

impl Memory {
    /// Takes the memory and writes to it, so that it is there.
    pub(crate) fn new(threads: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
        let words = threads.install(|| (0..(BYTES / size_of::<u64>()) as u64).into_par_iter().collect());
        Ok(Self { words, threads })
    }

    /// The time to read the buffer once.
    pub(crate) fn read(&self) -> Duration {
        self.threads.install(|| {
            let begin = Instant::now();
            let pieces = self.words.par_chunks(PIECE / size_of::<u64>());
            hint::black_box(pieces.map(sum).reduce(|| 0, u64::wrapping_add));
            begin.elapsed()
        })
    }
}

/// The sum of the words, in several lanes so that no addition waits for the one before.
fn sum(words: &[u64]) -> u64 {
    const LANES: usize = 16;
    let mut lanes = [0u64; LANES];
    for words in words.as_chunks::<LANES>().0 {
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.into_iter().fold(0, u64::wrapping_add)
}
