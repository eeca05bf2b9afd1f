//! What `bt_record` costs beyond the same record made from Rust: batches of both take turns in one run, and the medians
//! of the batches are compared.

use std::hint::black_box;
use std::time::Instant;

use bitnet_trace_capi::{Dtype, bt_record};
use bitnet_trace_core::digest::{Elements, TensorView};
use bitnet_trace_core::session::record;
use bitnet_trace_core::{Error, TraceContext, TraceSession};

const BATCHES: usize = 301;
const CALLS: u32 = 500;

fn main() -> Result<(), Error> {
    let directory = tempfile::tempdir().map_err(|error| Error::Tensor(error.into()))?;
    let session: TraceSession = TraceSession::builder().dir(directory.path()).format("jsonl").start()?;
    println!("{:<12} {:>10} {:>10} {:>12}", "", "Rust, us", "C, us", "beyond, us");
    for width in [1, 2560] {
        let data = vec![0.5f32; width];
        let (shape, dims) = ([1, width], [1, i64::try_from(width).unwrap_or(0)]);
        let view = TensorView::contiguous(Elements::F32(&data), &shape)?;
        let _scope = TraceContext::seq(0).with_layer(1).enter();
        let mut times = [Vec::new(), Vec::new()];
        session.in_scope(|| {
            for _ in 0..BATCHES {
                times[0].push(batch(|| record(black_box("q_proj"), &view)));
                times[1].push(batch(|| in_c(&data, &dims)));
            }
        });
        let [rust, c] = times.map(median);
        println!("1 x {width:<8} {rust:>10.3} {c:>10.3} {:>12.3}", c - rust);
    }
    Ok(())
}

/// Microseconds a call.
fn batch(mut call: impl FnMut()) -> f64 {
    let start = Instant::now();
    (0..CALLS).for_each(|_| call());
    start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[allow(unsafe_code)] // as C calls it
fn in_c(data: &[f32], dims: &[i64; 2]) {
    let stage = black_box(c"q_proj").as_ptr();
    // SAFETY: the texts end with a zero byte, and the data holds what the dimensions say.
    let status = unsafe {
        bt_record(
            std::ptr::null(),
            data.as_ptr().cast(),
            Dtype::BtF32 as i32,
            2,
            dims.as_ptr(),
            std::ptr::null(),
            stage,
        )
    };
    assert_eq!(status as i32, 0);
}
