//! Splitting the rows of a product over the threads of the current rayon pool.

use std::array;
use std::hint;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rayon::Yield;

/// Times that an idle thread looks for work before it lets other processes have the processor in between.
const LOOKS: u32 = 2_000;

/// Splits `parts`, which are equally long, at the same rows until they have at most `grain`, and calls `task` with the
/// first row and the pieces, on any threads of the pool.
pub(crate) fn split<const PARTS: usize>(
    first: usize,
    parts: [&mut [f32]; PARTS],
    grain: usize,
    task: &(impl Fn(usize, [&mut [f32]; PARTS]) + Sync),
) {
    let rows = parts.first().map_or(0, |part| part.len());
    if rows <= grain {
        return task(first, parts);
    }
    let middle = rows / 2;
    let mut high: [&mut [f32]; PARTS] = array::from_fn(|_| Default::default());
    let mut rest = high.iter_mut();
    let low = parts.map(|part| {
        let (low, high) = part.split_at_mut(middle);
        if let Some(rest) = rest.next() {
            *rest = high;
        }
        low
    });
    rayon::join(|| split(first, low, grain, task), || split(first + middle, high, grain, task));
}

/// Cuts every row of `out`, `[.., width]`, into pieces of `block` columns: the n-th element has the n-th piece of each row.
pub(crate) fn columns(out: &mut [f32], width: usize, block: usize) -> Vec<Vec<&mut [f32]>> {
    let rows = out.len() / width;
    let mut tasks: Vec<Vec<&mut [f32]>> = (0..width.div_ceil(block)).map(|_| Vec::with_capacity(rows)).collect();
    for row in out.chunks_exact_mut(width) {
        for (task, piece) in tasks.iter_mut().zip(row.chunks_mut(block)) {
            task.push(piece);
        }
    }
    tasks
}

/// Calls `work` on a thread of the current pool, and keeps the pool's other threads looking for work until it returns. A
/// token has some hundred products of a tenth of a millisecond: a thread that sleeps between them is woken too late.
pub fn awake<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Release);
        }
    }
    let done = AtomicBool::new(false);
    rayon::scope(|scope| {
        let this = rayon::current_thread_index();
        let _done = Done(&done);
        if rayon::current_num_threads() > 1 {
            let done = &done;
            scope.spawn_broadcast(move |_, thread| {
                // This thread gets here only when it waits for others.
                if Some(thread.index()) != this {
                    look_for_work(done);
                }
            });
        }
        work()
    })
}

fn look_for_work(done: &AtomicBool) {
    let mut looks = 0;
    while !done.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(Yield::Executed) {
            looks = 0;
        } else if looks < LOOKS {
            looks += 1;
            hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}
