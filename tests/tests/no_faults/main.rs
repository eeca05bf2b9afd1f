//! Pairs of runs without a fault that are not equal bit for bit: another order of summation, another number of
//! threads, other types, other chunks. Whatever the tolerance says about them, no cause is named, and no stage
//! is reported as the origin.

mod decoder;

use std::path::Path;
use std::process::Command;

use bitnet_trace::compare::{Comparison, Origin, Verdict};
use bitnet_trace::{Tolerance, Trace, TraceSession, diff};
use candle_core::DType;

use decoder::{Decoder, Order, Variant};

/// The positions to compute, in the chunks of each step.
const POSITIONS: usize = 12;
const CHUNKS: &[usize] = &[8, 1, 1, 1, 1];

fn trace(capture: &str, variant: &Variant) -> Trace {
    let session = TraceSession::builder().in_memory().capture(capture).start().expect("a session");
    session.in_scope(|| Decoder::new(variant).run().expect("it runs"));
    session.finish().expect("nothing lost")
}

/// Compares with every tolerance and counts the pair.
fn check(what: &str, reference: &Trace, trace: &Trace, tolerances: &[Tolerance], pairs: &mut usize) {
    *pairs += 1;
    for tolerance in tolerances {
        claims_nothing(what, &diff(reference, trace, tolerance));
    }
}

fn claims_nothing(what: &str, comparison: &Comparison) {
    for pair in &comparison.pairs {
        let Some(details) = &pair.details else { continue };
        let is_compared = !matches!(pair.verdict, Verdict::OnlyReference | Verdict::OnlyTrace);
        assert!(!is_compared || details.cause.is_none(), "{what}: {}: {:?}\n{comparison}", pair.key, details.cause);
        let here = details.origin.is_some_and(Origin::is_here);
        assert!(!here, "{what}: {}: {:?}\n{comparison}", pair.key, details.origin);
    }
}

/// The default tolerance, one that noise exceeds, and one that allows no difference.
fn tolerances() -> [Tolerance; 3] {
    [Tolerance::default(), Tolerance::rel_l2(1e-7), Tolerance::rel_l2(0.0)]
}

const CAPTURES: [&str; 3] = ["none", "sketch", "sketch,values"];

#[test]
fn nothing_is_claimed_where_nothing_is_wrong() {
    let mut pairs = 0;
    let mut differing = 0;
    for quantised in [false, true] {
        let plain = Variant { quantised, ..Variant::default() };
        for capture in CAPTURES {
            let reference = trace(capture, &plain);
            let orders = [Order::Reversed, Order::Split(2), Order::Split(8), Order::Interleaved(4), Order::Double];
            for order in orders {
                let variant = Variant { order, ..plain };
                let other = trace(capture, &variant);
                differing += usize::from(!diff(&reference, &other, &Tolerance::rel_l2(0.0)).matches());
                check(&format!("{order:?}, {capture}"), &reference, &other, &tolerances(), &mut pairs);
            }
            for dtype in [DType::BF16, DType::F16] {
                for upcast in [false, true] {
                    let variant = Variant { dtype, upcast, ..plain };
                    let what = format!("{dtype:?}, upcast {upcast}, quantised {quantised}, {capture}");
                    check(&what, &reference, &trace(capture, &variant), &[Tolerance::default()], &mut pairs);
                }
            }
        }
        let reference = trace("sketch,values", &plain);
        for chunks in [&[4, 4, 1, 1, 1, 1][..], &[POSITIONS], &[1; POSITIONS], &[3, 5, 4]] {
            let other = trace("sketch,values", &Variant { chunks, ..plain });
            check(&format!("{chunks:?}"), &reference, &other, &tolerances(), &mut pairs);
        }
    }
    assert!(pairs >= 50, "{pairs}");
    // The orders do differ, so the test would see a wrong claim.
    assert!(differing >= 15, "{differing}");
}

/// A fault in the same decoder is found, and its stage is reported as the origin.
#[test]
fn a_fault_in_the_same_decoder_is_claimed() {
    for quantised in [false, true] {
        let plain = Variant { quantised, ..Variant::default() };
        let reference = trace("sketch,values", &plain);
        let faulty = trace("sketch,values", &Variant { fault: Some("o_proj"), ..plain });
        let comparison = diff(&reference, &faulty, &Tolerance::default());
        let first = comparison.first_divergence().expect("one");
        let origin = first.details.as_ref().and_then(|details| details.origin).expect("known");
        assert!(&*first.key.stage == "o_proj" && origin.is_here(), "{comparison}");
    }
}

/// The embedded model on one thread and on four.
#[test]
fn another_number_of_threads() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = |threads: &str| {
        let path = directory.path().join(threads);
        let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
        command.arg("model").env("BITNET_TRACE_DIR", &path).env("BITNET_TRACE_CAPTURE", "sketch,values");
        command.env("RAYON_NUM_THREADS", threads);
        let _ = bitnet_trace_tests::succeed(&mut command);
        Trace::open(Path::new(&path)).expect("readable")
    };
    let (one, four) = (run("1"), run("4"));
    assert!(one.records().len() > 100);
    for tolerance in tolerances() {
        claims_nothing("threads", &diff(&one, &four, &tolerance));
    }
}
