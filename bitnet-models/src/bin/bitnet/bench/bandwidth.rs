//! How fast this machine reads memory, on the same number of threads.

use std::hint;
use std::io;
use std::time::{Duration, Instant};

use memmap2::MmapMut;
use rayon::prelude::*;

/// Larger than the caches of the largest processors.
pub(crate) const BYTES: usize = 1 << 30;

/// Bytes that a thread reads in one go.
const PIECE: usize = 1 << 20;

/// Places that a thread reads at the same time: the processor then has more lines on their way than from one.
const STREAMS: usize = 4;

/// Bytes that come from memory together.
const LINE: usize = 64;

/// A buffer to read, and the threads that read it.
pub(crate) struct Memory {
    bytes: MmapMut,
    threads: rayon::ThreadPool,
}

impl Memory {
    /// Takes the memory and writes to it, so that it is there.
    pub(crate) fn new(threads: usize) -> io::Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(io::Error::other)?;
        let mut bytes = MmapMut::map_anon(BYTES)?;
        // With small pages it is the looking up of addresses that takes the time. A system without large ones refuses.
        #[cfg(target_os = "linux")]
        let _ = bytes.advise(memmap2::Advice::HugePage);
        threads.install(|| bytes.par_chunks_mut(PIECE).for_each(|piece| piece.fill(1)));
        Ok(Self { bytes, threads })
    }

    /// The time to read the buffer once.
    pub(crate) fn read(&self) -> Duration {
        self.threads.install(|| {
            let begin = Instant::now();
            hint::black_box(self.bytes.par_chunks(PIECE).map(sum).reduce(|| 0, u64::wrapping_add));
            begin.elapsed()
        })
    }
}

/// A sum that needs every word.
fn sum(bytes: &[u8]) -> u64 {
    let mut sums = [0u64; LINE / size_of::<u64>()];
    let stream = bytes.len() / STREAMS;
    let streams: [&[u8]; STREAMS] = std::array::from_fn(|index| &bytes[index * stream..][..stream]);
    for at in (0..stream).step_by(LINE) {
        for stream in streams {
            let words = stream[at..].as_chunks().0;
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(u64::from_ne_bytes(*word));
            }
        }
    }
    sums.into_iter().fold(0, u64::wrapping_add)
}
