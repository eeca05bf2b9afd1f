//! Counts with valgrind how many instructions and allocations a call costs while nothing records: annotated
//! functions while no variable asks for a trace, and a context scope. Fails if something costs more than the
//! documented limit.
//!
//! Each kind of loop runs twice with different numbers of calls. Dividing the difference of the counts by the
//! difference of the calls leaves out everything that runs once.

use std::hint::black_box;
use std::pin::{Pin, pin};
use std::process::Command;
use std::task::{Context, Poll, Waker};

use bitnet_trace::{TraceContext, traced};
use candle_core::{Device, Error, Result, Tensor};

/// The numbers of calls in the two runs of a kind.
const CALLS: [usize; 2] = [1_000, 11_000];

/// The instructions that a call site may cost beyond the same code without the attribute.
const SITE: f64 = 10.0;
/// The instructions that opening and leaving a scope may cost.
const SCOPE: f64 = 12.0;
/// The instructions of the condition in `when`, which the plain code does not have.
const CONDITION: f64 = 2.0;

/// Label, kind, the kind without the library, and the most instructions that the first may cost beyond it.
const ROWS: [(&str, &str, &str, f64); 11] = [
    ("scope entered and left", "scope", "no scope", SCOPE),
    ("fn", "annotated", "plain", SITE),
    ("fn, layer =", "annotated, layer", "plain, layer", SITE + SCOPE),
    ("fn, locals, one binding", "annotated, locals", "plain, locals", SITE + SITE),
    ("fn, layers(), one pass", "annotated, layers", "plain, layers", SITE + SITE + SCOPE),
    ("async fn", "async", "plain async", SITE),
    ("async fn, layer =", "async, layer", "plain async, layer", SITE),
    ("async fn, inputs()", "async, inputs", "plain async", SITE),
    ("boxed future", "boxed", "plain boxed", SITE),
    ("boxed future, layer =", "boxed, layer", "plain boxed, layer", SITE + SCOPE),
    ("boxed future, inputs(), when =", "boxed, when", "plain boxed, layer", SITE + CONDITION),
];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, calls, kind] = &args[..]
        && flag == "--calls"
    {
        return repeat(calls.parse().map_err(Error::wrap)?, kind);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: instructions are counted by valgrind, which is not installed");
        return Ok(());
    }
    println!("{:<36} {:>12} {:>8} {:>12}", "a call, variable unset", "instructions", "at most", "allocations");
    let mut too_many = Vec::new();
    for (label, kind, bare, most) in ROWS {
        let instructions = net(&["--tool=callgrind", "--callgrind-out-file=/dev/null"], "Collected : ", kind, bare)?;
        let allocations = net(&["--leak-check=no"], "total heap usage: ", kind, bare)?;
        println!("{label:<36} {instructions:>12.2} {most:>8} {allocations:>12.2}");
        // Code that runs once differs by some hundred instructions, a hundredth of an instruction a call.
        if instructions.round() > most || allocations.round() > 0.0 {
            too_many.push(label);
        }
    }
    if too_many.is_empty() {
        return Ok(());
    }
    Err(Error::msg(format!("more instructions than the limit, or an allocation: {}", too_many.join("; "))))
}

/// The loops that are counted.
fn repeat(calls: usize, kind: &str) -> Result<()> {
    let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
    let each = |f: &dyn Fn(&Tensor, usize)| (0..calls).for_each(|index| f(black_box(&x), index));
    match kind {
        "no scope" => (0..calls).for_each(work),
        "scope" => (0..calls).for_each(|layer| {
            let _layer = TraceContext::layer(layer).enter();
            work(layer);
        }),
        "plain" => each(&|x, _| keep(opaque(plain as fn(&Tensor) -> Result<Tensor>)(x))),
        "annotated" => each(&|x, _| keep(opaque(annotated as fn(&Tensor) -> Result<Tensor>)(x))),
        "plain, layer" => each(&|x, layer| keep(opaque(plain_layer as fn(&Tensor, usize) -> Result<Tensor>)(x, layer))),
        "annotated, layer" => {
            each(&|x, layer| keep(opaque(annotated_layer as fn(&Tensor, usize) -> Result<Tensor>)(x, layer)));
        }
        "plain, locals" => each(&|x, _| keep(opaque(plain_locals as fn(&Tensor) -> Result<Tensor>)(x))),
        "annotated, locals" => each(&|x, _| keep(opaque(annotated_locals as fn(&Tensor) -> Result<Tensor>)(x))),
        "plain, layers" => {
            each(&|x, _| keep(opaque(plain_layers as fn(&Tensor, usize) -> Result<Tensor>)(x, black_box(1))));
        }
        "annotated, layers" => {
            each(&|x, _| keep(opaque(annotated_layers as fn(&Tensor, usize) -> Result<Tensor>)(x, black_box(1))));
        }
        "plain async" => each(&|x, _| keep(ready(plain_async(x)))),
        "async" => each(&|x, _| keep(ready(annotated_async(x)))),
        "plain async, layer" => each(&|x, layer| keep(ready(plain_async_layer(x, layer)))),
        "async, layer" => each(&|x, layer| keep(ready(annotated_async_layer(x, layer)))),
        "async, inputs" => each(&|x, _| keep(ready(annotated_async_inputs(x)))),
        "plain boxed" => each(&|x, _| keep(ready(plain_boxed(x)))),
        "boxed" => each(&|x, _| keep(ready(annotated_boxed(x)))),
        "plain boxed, layer" => each(&|x, layer| keep(ready(plain_boxed_layer(x, layer)))),
        "boxed, layer" => each(&|x, layer| keep(ready(annotated_boxed_layer(x, layer)))),
        "boxed, when" => each(&|x, layer| keep(ready(annotated_boxed_when(x, layer)))),
        _ => return Err(Error::msg(format!("unknown kind {kind:?}"))),
    }
    Ok(())
}

/// Hides from the compiler which function it is, so that it can adapt neither the caller nor the function.
fn opaque<F: Copy>(function: F) -> F {
    black_box(function)
}

fn keep<T>(value: T) {
    let _ = black_box(value);
}

/// The work inside a scope. The compiler has to assume that it reads the context.
#[inline(never)]
fn work(layer: usize) {
    black_box(layer);
}

/// Polls once, as a runtime does: without knowing the type of the future.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let future: Pin<&mut dyn Future<Output = T>> = black_box(future.as_mut());
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

type Boxed<'a> = Pin<Box<dyn Future<Output = Result<Tensor>> + Send + 'a>>;

#[allow(clippy::unnecessary_wraps)] // as functions of a model
#[inline(never)]
fn plain(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

#[traced]
#[inline(never)]
fn annotated(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

#[allow(clippy::unnecessary_wraps)]
#[inline(never)]
fn plain_layer(x: &Tensor, layer: usize) -> Result<Tensor> {
    work(layer);
    Ok(x.clone())
}

#[traced(layer = layer)]
#[inline(never)]
fn annotated_layer(x: &Tensor, layer: usize) -> Result<Tensor> {
    work(layer);
    Ok(x.clone())
}

#[inline(never)]
fn plain_locals(x: &Tensor) -> Result<Tensor> {
    let y = forward(x)?;
    forward(&y)
}

#[traced(locals)]
#[inline(never)]
fn annotated_locals(x: &Tensor) -> Result<Tensor> {
    let y = forward(x)?;
    forward(&y)
}

#[allow(clippy::unnecessary_wraps)]
#[inline(never)]
fn plain_layers(x: &Tensor, layers: usize) -> Result<Tensor> {
    for layer in 0..layers {
        work(layer);
    }
    Ok(x.clone())
}

#[traced(layers(layer))]
#[inline(never)]
fn annotated_layers(x: &Tensor, layers: usize) -> Result<Tensor> {
    for layer in 0..layers {
        work(layer);
    }
    Ok(x.clone())
}

/// The function that the bodies of asynchronous functions call.
#[allow(clippy::unnecessary_wraps)]
#[inline(never)]
fn forward(x: &Tensor) -> Result<Tensor> {
    Ok(x.clone())
}

async fn plain_async(x: &Tensor) -> Result<Tensor> {
    std::future::ready(()).await;
    forward(x)
}

#[traced]
async fn annotated_async(x: &Tensor) -> Result<Tensor> {
    std::future::ready(()).await;
    forward(x)
}

#[traced(inputs(x))]
async fn annotated_async_inputs(x: &Tensor) -> Result<Tensor> {
    std::future::ready(()).await;
    forward(x)
}

async fn plain_async_layer(x: &Tensor, layer: usize) -> Result<Tensor> {
    work(layer);
    std::future::ready(()).await;
    forward(x)
}

#[traced(layer = layer)]
async fn annotated_async_layer(x: &Tensor, layer: usize) -> Result<Tensor> {
    work(layer);
    std::future::ready(()).await;
    forward(x)
}

#[inline(never)]
fn plain_boxed(x: &Tensor) -> Boxed<'_> {
    Box::pin(async move { forward(x) })
}

#[traced]
#[inline(never)]
fn annotated_boxed(x: &Tensor) -> Boxed<'_> {
    Box::pin(async move { forward(x) })
}

#[inline(never)]
fn plain_boxed_layer(x: &Tensor, layer: usize) -> Boxed<'_> {
    Box::pin(async move {
        work(layer);
        forward(x)
    })
}

#[traced(layer = layer)]
#[inline(never)]
fn annotated_boxed_layer(x: &Tensor, layer: usize) -> Boxed<'_> {
    Box::pin(async move {
        work(layer);
        forward(x)
    })
}

#[traced(inputs(x), when = layer > 0)]
#[inline(never)]
fn annotated_boxed_when(x: &Tensor, layer: usize) -> Boxed<'_> {
    Box::pin(async move {
        work(layer);
        forward(x)
    })
}

/// How much more a call of a kind costs than one of the bare kind.
fn net(tool: &[&str], label: &str, kind: &str, bare: &str) -> Result<f64> {
    let per_call = |kind| {
        let [few, many] = CALLS.map(|calls| counted(tool, label, calls, kind));
        Ok::<_, Error>((many? - few?) / number(CALLS[1] - CALLS[0]))
    };
    Ok(per_call(kind)? - per_call(bare)?)
}

/// The number after the label in valgrind's report.
fn counted(tool: &[&str], label: &str, calls: usize, kind: &str) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(tool)
        .arg(std::env::current_exe()?)
        .args(["--calls", &calls.to_string(), kind])
        .env_remove("BITNET_TRACE_DIR")
        .env_remove("BITNET_TRACE_PRINT")
        .output()?;
    let report = String::from_utf8_lossy(&output.stderr);
    let found = report.lines().find_map(|line| {
        let (_, after) = line.split_once(label)?;
        after.split_whitespace().next()?.replace(',', "").parse().ok()
    });
    found.ok_or_else(|| Error::msg(format!("expected a number after {label:?} in valgrind's report, found: {report}")))
}

#[allow(clippy::cast_precision_loss)] // small
fn number(calls: usize) -> f64 {
    calls as f64
}
