//! Two implementations compared inside one process, as a unit test does it:
//!
//! ```sh
//! cargo run -p bitnet-trace --features trace --example unit_test
//! ```
//!
//! Nothing is written to the disk, and the environment's variables play no part.

use bitnet_trace::compare::Comparison;
use bitnet_trace::{Tolerance, Trace, TraceContext, TraceSession, diff, traced};
use candle_core::{D, Device, Result, Tensor};

/// The implementation that is right: divides by the root of the mean square. `inputs(x)` shows that an error
/// was made here, and not in the stage before.
#[traced(stage = "attn_norm", inputs(x))]
fn norm(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.mean_keepdim(D::Minus1)?.sqrt()?)
}

/// The same in other steps: the last bits may differ.
#[traced(stage = "attn_norm", inputs(x))]
fn faster_norm(x: &Tensor) -> Result<Tensor> {
    x.broadcast_mul(&x.sqr()?.mean_keepdim(D::Minus1)?.powf(-0.5)?)
}

/// The fault: it forgets the root.
#[traced(stage = "attn_norm", inputs(x))]
fn wrong_norm(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.mean_keepdim(D::Minus1)?)
}

#[traced(stage = "ffn_out")]
fn feed_forward(x: &Tensor) -> Result<Tensor> {
    x.matmul(&x.t()?)?.relu()
}

/// Runs two layers and returns what they recorded. `capture("values")` keeps the elements, which lets the
/// comparison name a cause and the worst element.
fn record(norm: impl Fn(&Tensor) -> Result<Tensor>) -> Trace {
    let session = TraceSession::builder().in_memory().capture("values").start().expect("a session in memory starts");
    session.in_scope(|| two_layers(norm)).expect("candle computes on the CPU");
    session.finish().expect("nothing is lost in memory")
}

fn two_layers(norm: impl Fn(&Tensor) -> Result<Tensor>) -> Result<()> {
    let mut x = Tensor::arange(1f32, 17.0, &Device::Cpu)?.reshape((4, 4))?;
    for layer in 0..2 {
        let _layer = TraceContext::layer(layer).enter();
        x = feed_forward(&norm(&x)?)?;
    }
    Ok(())
}

fn main() {
    let tolerance = Tolerance::default();
    let reference = record(norm);

    // Fails the test, with the whole screen, unless every record matches.
    let good: Comparison = diff(&reference, &record(faster_norm), &tolerance);
    good.assert_match();
    println!("faster_norm: match in {} pairs", good.compared());

    let bad = diff(&reference, &record(wrong_norm), &tolerance);
    let first = bad.first_divergence().expect("the fault is found");
    assert_eq!((first.key.to_string().as_str(), first.verdict.matches()), ("blk0/attn_norm", false));
    println!("wrong_norm:  {} {}\n\n{bad}", first.key, first.verdict);
}
