//! What is said of a pair.

use bitnet_trace::compare::{Cause, Comparison, Origin, Verdict};
use bitnet_trace::{Tolerance, TraceContext, diff, tap};
use candle_core::{DType, Device, Tensor};

use crate::{Directory, compare, noise, of, paths, record, tensor, trace};

#[test]
fn verdicts() {
    let x = tensor(&noise(1, 64));
    let near = (&x * 1.000_001).expect("scaled");
    let nan = |at: usize| {
        let mut values = noise(1, 64);
        values[at] = f32::NAN;
        tensor(&values)
    };
    let integers = Tensor::new(&[1u32, 2], &Device::Cpu).expect("a tensor");
    let row = x.reshape((1, 64)).expect("a row");
    let square = x.reshape((8, 8)).expect("a square");
    let cases = [
        (&x, &x, Verdict::Identical),
        (&x, &row, Verdict::Identical),
        (&x, &near, Verdict::Within),
        (&x, &(&x * 2.0).expect("scaled"), Verdict::Diverged),
        (&x, &square, Verdict::Shape),
        (&integers, &tensor(&[1.0, 2.0]), Verdict::Dtype),
        (&x, &nan(3), Verdict::Nonfinite),
        (&nan(3), &x, Verdict::Nonfinite),
        (&nan(3), &nan(3), Verdict::Identical),
    ];
    for capture in ["sketch", "sketch,values"] {
        for (a, b, expected) in &cases {
            let comparison = compare(&of(capture, &[("x", a)]), &of(capture, &[("x", b)]));
            assert_eq!(comparison.pairs[0].verdict, *expected, "{capture}\n{comparison}");
        }
    }
    // With values the place counts too.
    let moved = compare(&of("values", &[("x", &nan(3))]), &of("values", &[("x", &nan(4))]));
    assert_eq!(moved.pairs[0].verdict, Verdict::Nonfinite, "{moved}");
    // f32 cannot tell these apart, their own bytes can.
    let wide = |value: i64| Tensor::new(&[value], &Device::Cpu).expect("a tensor");
    let raw = compare(&of("sketch", &[("x", &wide(1 << 24))]), &of("sketch", &[("x", &wide((1 << 24) + 1))]));
    assert_eq!(raw.pairs[0].verdict, Verdict::Diverged, "{raw}");
}

#[test]
fn numbers_and_the_tolerance_that_would_do() {
    let (a, b) = (tensor(&[3.0, 4.0, 0.0, 1.0]), tensor(&[3.0, 4.5, 0.0, 1.0]));
    let comparison = compare(&of("values", &[("x", &a)]), &of("values", &[("x", &b)]));
    let details = comparison.first_divergence().expect("one").details.clone().expect("details");
    let difference = details.difference.expect("numbers");
    let expected = 0.5 / 26f64.sqrt();
    assert!((difference.rel_l2.expect("known") - expected).abs() < 1e-12);
    let worst = difference.worst.expect("known");
    assert_eq!((worst.index, worst.reference, worst.trace), (vec![1], 4.0, 4.5));
    assert_eq!((difference.max_abs, difference.max_rel, difference.mean_abs), (Some(0.5), Some(0.125), Some(0.125)));
    assert_eq!((difference.max_ulp, difference.differing), (Some(1 << 20), Some(1)));
    let smallest = comparison.smallest_tolerance.expect("one would do");
    let again = diff(&of("values", &[("x", &a)]), &of("values", &[("x", &b)]), &Tolerance::rel_l2(smallest));
    assert!(again.matches());
    // bf16 against f32: held to the coarser type, and named what it is.
    let coarse = tensor(&noise(7, 64)).to_dtype(DType::BF16).expect("rounded");
    let rounding =
        diff(&of("values", &[("x", &tensor(&noise(7, 64)))]), &of("values", &[("x", &coarse)]), &Tolerance::default());
    assert_eq!(rounding.pairs[0].verdict, Verdict::Within, "{rounding}");
    let numbers = rounding.pairs[0].details.as_ref().and_then(|details| details.difference.clone()).expect("numbers");
    assert_eq!(numbers.rounding, Some("BF16"));
}

#[test]
fn recorded_inputs_tell_the_culprit() {
    let run = |input: f32, output: f32| {
        trace("values", || {
            #[bitnet_trace::traced(stage = "proj", inputs(x))]
            fn proj(x: &Tensor, output: f32) -> Tensor {
                let _ = x;
                tensor(&[output, 1.0])
            }
            proj(&tensor(&[input, 1.0]), output);
        })
    };
    let origin = |comparison: &Comparison| {
        let last = comparison.pairs.last().expect("a pair").details.clone().expect("details");
        last.origin
    };
    assert_eq!(origin(&compare(&run(1.0, 2.0), &run(1.0, 3.0))), Some(Origin::InputsMatch));
    assert_eq!(origin(&compare(&run(1.0, 2.0), &run(1.5, 3.0))), Some(Origin::InputsDiffer));
}

/// Where an input is there in some calls only, its repeat number is not that of the output.
#[test]
fn inputs_of_other_calls_tell_nothing() {
    #[bitnet_trace::traced(stage = "proj", inputs(x))]
    fn proj(x: Option<&Tensor>, output: f32) -> Tensor {
        let _ = x;
        tensor(&[output, 1.0])
    }
    let run = |input: f32, outputs: [f32; 2]| {
        trace("values", || {
            proj(None, outputs[0]);
            proj(Some(&tensor(&[input, 1.0])), outputs[1]);
        })
    };
    for (input, outputs) in [(1.0, [3.0, 2.0]), (1.5, [3.0, 2.0])] {
        let comparison = compare(&run(1.0, [2.0, 2.0]), &run(input, outputs));
        let first = comparison.first_divergence().expect("one");
        assert_eq!(first.key.to_string(), "proj", "{comparison}");
        assert_eq!(first.details.as_ref().expect("details").origin, None, "{comparison}");
    }
}

/// An error that came of another process by what they exchange is not made by the stage that shows it.
#[test]
fn a_divergence_in_another_process_leaves_the_origin_open() {
    let line = |name: &str, holds: &str, sketch: f32| {
        use base64::Engine;
        let sums: Vec<u8> = (0..64).flat_map(|_| sketch.to_le_bytes()).collect();
        let sketch = base64::engine::general_purpose::STANDARD.encode(sums);
        record(name, &format!(r#","sketch":"{sketch}""#)).replace(&"ab".repeat(32), &holds.repeat(32))
    };
    let ranks = |other: &str, by: f32| {
        let lines = [line("a", "ab", 1.0), line("b", other, by)].join("\n");
        Directory::new(&[("0/trace.jsonl", &lines), ("1/trace.jsonl", &lines)])
    };
    let (reference, trace) = (ranks("cd", 1.0), ranks("ef", 2.0));
    let comparison = paths(&reference.path(""), &trace.path("")).expect("readable");
    assert_eq!(comparison.count(Verdict::Diverged), 2, "{comparison}");
    for pair in comparison.pairs.iter().filter(|pair| pair.verdict == Verdict::Diverged) {
        assert_eq!(pair.details.as_ref().expect("details").origin, None, "{comparison}");
    }
}

/// Without recorded inputs the growth of the error tells what made it and what was given it.
#[test]
fn the_growth_of_the_error_tells_the_culprit() {
    let x = tensor(&noise(1, 64));
    let off = |by: f64| (&x + (tensor(&noise(2, 64)) * by).expect("scaled")).expect("added");
    let nan = tensor(&[f32::NAN; 64]);
    // Noise, far more of it, a little more.
    let (noisy, wrong, grown) = (off(1e-4), off(0.1), off(0.3));
    for capture in ["sketch", "values"] {
        let reference = of(capture, &["a", "b", "c", "d", "e"].map(|stage| (stage, &x)));
        let stages = [("a", &noisy), ("b", &wrong), ("c", &grown), ("d", &nan), ("e", &nan)];
        let comparison = compare(&reference, &of(capture, &stages));
        let details = comparison.pairs.iter().map(|pair| pair.details.clone().expect("details"));
        let (origins, causes): (Vec<_>, Vec<_>) = details.map(|details| (details.origin, details.cause)).unzip();
        // Nothing was compared before the first; what becomes of a wrong input says nothing for certain.
        let [jumps, there] = [Some(Origin::ErrorJumps), Some(Origin::ErrorWasThere)];
        assert_eq!(origins, [None, jumps, there, None, there], "{capture}\n{comparison}");
        let not_finite = [Some(Cause::NonfiniteBorn), Some(Cause::NonfiniteInherited)];
        assert_eq!(causes[3..], not_finite, "{capture}\n{comparison}");
        assert_eq!(causes[..3], [None, None, None], "{capture}\n{comparison}");
    }
}

#[test]
fn rules_of_a_tolerance_hold_in_their_order() {
    let tolerance: Tolerance =
        "[[rule]]\nstage = \"attn_*\"\nlayer = \"1\"\nrel_l2 = 1.0\n[[rule]]\nstage = \"attn_*\"\nmax_abs = 0.25\n"
            .parse()
            .expect("rules");
    let run = |change: f32| {
        trace("values", || {
            for layer in [0, 1] {
                let _layer = TraceContext::layer(layer).enter();
                tap("attn_norm", &tensor(&[1.0, 1.0 + change]));
            }
            tap("logits", &tensor(&[1.0, 2.0]));
        })
    };
    let verdicts =
        |change| diff(&run(0.0), &run(change), &tolerance).pairs.iter().map(|pair| pair.verdict).collect::<Vec<_>>();
    assert_eq!(verdicts(0.2), [Verdict::Within, Verdict::Within, Verdict::Identical]);
    assert_eq!(verdicts(0.3), [Verdict::Diverged, Verdict::Within, Verdict::Identical]);
}
