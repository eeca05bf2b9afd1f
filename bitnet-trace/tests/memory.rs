//! What recording a tensor takes from the memory: nothing of the tensor's size.
//!
//! `unsafe` here: a global allocator that looks at sizes has no safe form.
#![cfg(feature = "trace")]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use bitnet_trace::{TraceSession, tap};
use candle_core::{DType, Device, Tensor};

/// The largest allocation since it was last set to zero.
static LARGEST: AtomicUsize = AtomicUsize::new(0);

/// No buffer is larger: a block, and what it takes to begin it at a cache line.
const MOST: usize = 64 * 1024 + 64;

struct Watched;

// SAFETY: everything is left to the system's allocator; only the sizes are looked at.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises about `layout` are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        LARGEST.fetch_max(size, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

fn ones(rows: usize, dtype: DType) -> Tensor {
    Tensor::ones((rows, 2560), dtype, &Device::Cpu).expect("a tensor")
}

/// One test, as the counters are the whole process's.
#[test]
fn nothing_of_the_size_of_a_tensor() {
    for format in ["files", "jsonl"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let session = TraceSession::builder().dir(dir.path()).format(format).capture("sketch,values").start();
        let session = session.expect("a session");
        session.in_scope(|| {
            for dtype in [DType::F32, DType::F64, DType::BF16, DType::F16, DType::U8, DType::I64, DType::F8E4M3] {
                let tensor = ones(512, dtype);
                let strided = tensor.t().expect("transposed");
                LARGEST.store(0, Ordering::Relaxed);
                tap("contiguous", &tensor);
                tap("strided", &strided);
                let largest = LARGEST.load(Ordering::Relaxed);
                assert!(largest <= MOST, "{format} {dtype:?}: an allocation of {largest} bytes");
            }
        });
        session.finish().expect("nothing lost");
    }
    #[cfg(target_os = "linux")]
    page_faults();
}

/// Pages that the system had to map while a tensor was recorded, for a small one and one of 20 MB.
#[cfg(target_os = "linux")]
fn page_faults() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let session = TraceSession::builder().dir(dir.path()).format("jsonl").start().expect("a session");
    let (small, large) = (ones(1, DType::F32), ones(2048, DType::F32));
    session.in_scope(|| {
        // Buffers are made by the first call.
        tap("warm", &large);
        let count = |tensor: &Tensor| {
            let before = minor_faults();
            for _ in 0..10 {
                tap("x", tensor);
            }
            minor_faults() - before
        };
        let (small, large) = (count(&small), count(&large));
        // The large tensor has 5120 pages; ten calls may touch a few new ones of the runtime's own.
        assert!(large <= small + 20, "{small} faults for the small tensor, {large} for the large one");
    });
    session.finish().expect("nothing lost");
}

/// Field 10 of `proc_pid_stat(5)`.
#[cfg(target_os = "linux")]
fn minor_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let after_name = stat.rsplit_once(')').expect("the name in parentheses").1;
    after_name.split_whitespace().nth(7).and_then(|faults| faults.parse().ok()).expect("a number")
}
