//! Contexts carried to threads and tasks: std threads, rayon, tokio.

use std::collections::BTreeMap;
use std::time::Duration;

use bitnet_trace::{Trace, TraceContext, TraceSession, tap, traced};
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;

const LAYERS: u32 = 8;

fn x(value: u32) -> Tensor {
    Tensor::new(&[value], &Device::Cpu).expect("a tensor")
}

fn trace<R>(f: impl FnOnce() -> R) -> Trace {
    let session = TraceSession::builder().in_memory().capture("values").start().expect("a session");
    session.in_scope(f);
    session.finish().expect("nothing lost")
}

/// The value of every record says in which context it should have been made.
fn assert_in_place(trace: &Trace, place: impl Fn(u32, u32) -> u32) {
    for record in trace.records() {
        let value = trace.values(record).expect("readable").expect("captured");
        let (request, layer) = (record.request.expect("a request"), record.layer_idx.expect("a layer"));
        let expected = place(request.try_into().expect("small"), layer.try_into().expect("small"));
        assert_eq!(value.to_f64(), [f64::from(expected)], "{}", record.name);
    }
}

fn place(request: u32, layer: u32) -> u32 {
    request * LAYERS + layer
}

/// How many records there are of every stage.
fn stages(trace: &Trace) -> BTreeMap<&str, u32> {
    let mut stages = BTreeMap::new();
    for record in trace.records() {
        *stages.entry(record.stage.as_deref().expect("a stage")).or_default() += 1;
    }
    stages
}

#[traced(stage = "block_out", layer = layer)]
async fn block(request: u32, layer: u32) -> Result<Tensor> {
    let x = x(place(request, layer));
    tap("before", &x);
    // As a rule another thread continues from here.
    tokio::time::sleep(Duration::from_micros(u64::from(100 * ((request * 7 + layer * 3) % 5)))).await;
    tap("between", &x);
    tokio::task::yield_now().await;
    projected(&x)
}

#[traced(stage = "proj")]
fn projected(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

#[test]
fn spawned_tasks_mix_no_layers() {
    const TASKS: u32 = 160;
    let trace = trace(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let tasks = (0..TASKS).map(|request| {
                let here = {
                    let _request = TraceContext::request(request.into()).enter();
                    TraceContext::current()
                };
                tokio::spawn(here.instrument(async move {
                    for layer in 0..LAYERS {
                        block(request, layer).await.expect("it runs");
                    }
                }))
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.expect("no panic");
            }
        });
    });
    let each = TASKS * LAYERS;
    assert_eq!(
        stages(&trace),
        BTreeMap::from([("before", each), ("between", each), ("block_out", each), ("proj", each)])
    );
    assert_in_place(&trace, place);
    // The tasks did interleave; otherwise the test would show nothing.
    let requests: Vec<_> = trace.records().iter().map(|record| record.request).collect();
    let changes = requests.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes > 160, "{changes}");
}

/// A guard across an `.await` would give its layer to everything else that the thread runs meanwhile.
#[test]
fn tasks_of_one_thread_mix_no_layers() {
    async fn layer(request: u32, layer: u32) {
        let here = TraceContext::layer(layer as usize);
        let x = x(place(request, layer));
        here.in_scope(|| tap("outside", &x));
        let body = async {
            tokio::task::yield_now().await;
            tap("inside", &x);
            tokio::task::yield_now().await;
            projected(&x).expect("it runs")
        };
        here.instrument(body).await;
        assert_eq!(TraceContext::current().layer, None);
    }

    const TASKS: u32 = 20;
    let trace = trace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let tasks = (0..TASKS).map(|request| {
                let mut here = TraceContext::current();
                here.request = Some(request.into());
                tokio::task::spawn_local(here.instrument(async move {
                    for index in 0..LAYERS {
                        layer(request, index).await;
                    }
                }))
            });
            for task in tasks.collect::<Vec<_>>() {
                task.await.expect("no panic");
            }
        });
    });
    let each = TASKS * LAYERS;
    assert_eq!(stages(&trace), BTreeMap::from([("inside", each), ("outside", each), ("proj", each)]));
    assert_in_place(&trace, place);
    // The tasks did take turns; otherwise the test would show nothing.
    let requests: Vec<_> = trace.records().iter().map(|record| record.request).collect();
    let changes = requests.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes > 20, "{changes}");
}

#[test]
fn layers_in_rayon_carry_the_context() {
    let trace = trace(|| {
        let _request = TraceContext::request(3).enter();
        let here = TraceContext::current();
        (0..LAYERS).into_par_iter().for_each(|layer| {
            here.in_scope(|| {
                let _layer = TraceContext::layer(layer as usize).enter();
                (0..50).for_each(|_| drop(projected(&x(place(3, layer)))));
            });
        });
    });
    assert_eq!(stages(&trace), BTreeMap::from([("proj", 50 * LAYERS)]));
    assert_in_place(&trace, place);
}

#[test]
fn threads_carry_the_context_and_leave_it() {
    let trace = trace(|| {
        let _request = TraceContext::request(1).enter();
        std::thread::scope(|scope| {
            for layer in 0..LAYERS {
                let here = {
                    let _layer = TraceContext::layer(layer as usize).enter();
                    TraceContext::current()
                };
                scope.spawn(move || {
                    here.in_scope(|| drop(projected(&x(place(1, layer)))));
                    // Outside of it there is no session, and nothing is recorded.
                    assert_eq!(TraceContext::current().layer, None);
                    drop(projected(&x(0)));
                });
            }
        });
    });
    assert_eq!(stages(&trace), BTreeMap::from([("proj", LAYERS)]));
    assert_in_place(&trace, place);
}

#[test]
fn a_task_that_is_cancelled_records_what_it_came_to() {
    let trace = trace(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let _request = TraceContext::request(2).enter();
            let here = TraceContext::current();
            let task = tokio::spawn(here.instrument(async {
                let never = async {
                    let _ = block(2, 0).await;
                    std::future::pending::<()>().await;
                    block(2, 1).await
                };
                tokio::time::timeout(Duration::from_millis(200), never).await.is_err()
            }));
            assert!(task.await.expect("no panic"), "it was cancelled");
        });
    });
    let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, ["blk0/before", "blk0/between", "blk0/proj", "blk0/block_out"]);
}
