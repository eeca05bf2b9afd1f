//! What code costs that records nothing, in instructions and allocations a call, counted by
//! valgrind: an annotated function while no variable asks for a trace, and a context scope.
//!
//! Each kind of loop runs twice with different numbers of calls; the difference of the counts over
//! the difference of the calls leaves out everything that runs once.

use std::hint::black_box;
use std::process::Command;

use bitnet_trace::{TraceContext, traced};
use candle_core::{Device, Error, Result, Tensor};

/// Calls of the two runs of a kind.
const CALLS: [usize; 2] = [1_000, 11_000];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, calls, kind] = &args[..]
        && flag == "--calls"
    {
        return repeat(calls.parse().map_err(Error::wrap)?, kind);
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("no valgrind: instructions are not counted");
        return Ok(());
    }
    println!("{:<36} {:>12} {:>8} {:>8} {:>12}", "a call", "instructions", "reach", "stretch", "allocations");
    for (label, kind, bare, reach, stretch) in [
        ("annotated, variable unset", "annotated", "plain", 10, 4),
        ("scope entered and left", "scope", "no scope", 12, 4),
    ] {
        let instructions = net(&["--tool=callgrind", "--callgrind-out-file=/dev/null"], "Collected : ", kind, bare)?;
        let allocations = net(&["--leak-check=no"], "total heap usage: ", kind, bare)?;
        println!("{label:<36} {instructions:>12.2} {reach:>8} {stretch:>8} {allocations:>12.2}");
    }
    Ok(())
}

/// The loops that are counted.
fn repeat(calls: usize, kind: &str) -> Result<()> {
    let x = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
    match kind {
        "plain" => (0..calls).for_each(|_| _ = black_box(plain(black_box(&x)))),
        "annotated" => (0..calls).for_each(|_| _ = black_box(annotated(black_box(&x)))),
        "no scope" => (0..calls).for_each(work),
        "scope" => (0..calls).for_each(|layer| {
            let _layer = TraceContext::layer(layer).enter();
            work(layer);
        }),
        _ => return Err(Error::msg(format!("no kind {kind:?}"))),
    }
    Ok(())
}

/// What stands inside a scope. It could look at the context, as far as the compiler knows.
#[inline(never)]
fn work(layer: usize) {
    black_box(layer);
}

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

/// What a call of a kind costs more than one of the bare kind.
fn net(tool: &[&str], label: &str, kind: &str, bare: &str) -> Result<f64> {
    let per_call = |kind| {
        let [few, many] = CALLS.map(|calls| counted(tool, label, calls, kind));
        Ok::<_, Error>((many? - few?) / number(CALLS[1] - CALLS[0]))
    };
    Ok(per_call(kind)? - per_call(bare)?)
}

/// The number behind the label in valgrind's report.
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
    found.ok_or_else(|| Error::msg(format!("valgrind reports no {label:?}: {report}")))
}

#[allow(clippy::cast_precision_loss)] // small
fn number(calls: usize) -> f64 {
    calls as f64
}
