//! Gradients: two runs of a small training loop, and the first gradient that differs.

use std::collections::{BTreeMap, HashMap};

use bitnet_trace::compare::{Cause, Comparison, DiffOptions, NameMap, Verdict, diff_paths};
use bitnet_trace::report::Screen;
use bitnet_trace::{Tolerance, Trace, TraceContext, TraceSession, diff, record_gradients, record_weights, tap};
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Module, Optimizer, SGD, VarBuilder, VarMap};

const STEPS: usize = 3;

/// What is wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sabotage {
    Nothing,
    /// The gradient of the last layer's weight is doubled in step 1.
    Doubled,
    /// The first layer's output is detached: no gradient comes to its parameters.
    Detached,
}

/// Parameters of two linear layers, the same in every run.
fn parameters() -> VarMap {
    let parameters = VarMap::new();
    let numbers = |name: &str, shape: &[usize]| {
        let count: usize = shape.iter().product();
        let number = |at: usize| u8::try_from((at * 7 + name.len() * 3) % 11).map_or(0.0, f32::from) / 11.0 - 0.4;
        let numbers: Vec<f32> = (0..count).map(number).collect();
        let tensor = Tensor::from_vec(numbers, shape, &Device::Cpu).expect("a tensor");
        Var::from_tensor(&tensor).expect("a variable")
    };
    let shapes: [(&str, &[usize]); 4] =
        [("fc1.weight", &[6, 4]), ("fc1.bias", &[6]), ("fc2.weight", &[2, 6]), ("fc2.bias", &[2])];
    let mut data = parameters.data().lock().expect("not poisoned");
    data.extend(shapes.map(|(name, shape)| (name.to_owned(), numbers(name, shape))));
    drop(data);
    parameters
}

/// Trains for a few steps, with the step as a scope or without, and records what a training port would.
fn train(sabotage: Sabotage, with_steps: bool) -> Result<()> {
    let parameters = parameters();
    let vb = VarBuilder::from_varmap(&parameters, DType::F32, &Device::Cpu);
    let (fc1, fc2) = (candle_nn::linear(4, 6, vb.pp("fc1"))?, candle_nn::linear(6, 2, vb.pp("fc2"))?);
    let sorted: BTreeMap<String, Var> = parameters.data().lock().expect("not poisoned").clone().into_iter().collect();
    record_weights(&sorted);
    let mut optimizer = SGD::new(parameters.all_vars(), 0.05)?;
    let x = Tensor::arange(0f32, 12.0, &Device::Cpu)?.affine(0.1, -0.5)?.reshape((3, 4))?;
    let wanted = Tensor::ones((3, 2), DType::F32, &Device::Cpu)?;
    for step in 0..STEPS {
        let _step = with_steps.then(|| TraceContext::seq(step).enter());
        let mut hidden = fc1.forward(&x)?.tanh()?;
        if sabotage == Sabotage::Detached {
            hidden = hidden.detach();
        }
        let y = fc2.forward(&hidden)?;
        let loss = candle_nn::loss::mse(&y, &wanted)?;
        tap("loss", &loss);
        let mut gradients = loss.backward()?;
        if sabotage == Sabotage::Doubled && step == 1 {
            let weight = &sorted["fc2.weight"];
            let doubled = (gradients.get(weight).expect("it has one") * 2.0)?;
            gradients.insert(weight, doubled);
        }
        // The scopes of layers and tokens play no part in gradients.
        let _tokens = TraceContext::tokens(0..3).with_layer(7).enter();
        // candle keeps no gradient of an activation. The last layer comes first.
        record_gradients(&gradients, [("y", &y)]);
        record_gradients(&gradients, sorted.iter().rev());
        optimizer.step(&gradients)?;
    }
    Ok(())
}

fn trace(sabotage: Sabotage, with_steps: bool) -> Trace {
    let session = TraceSession::builder().in_memory().capture("values").start().expect("a session");
    session.in_scope(|| train(sabotage, with_steps)).expect("it trains");
    session.finish().expect("nothing lost")
}

fn compared(reference: &Trace, trace: &Trace) -> Comparison {
    diff(reference, trace, &Tolerance::default())
}

#[test]
fn each_gradient_has_the_name_of_its_tensor_and_the_step_of_the_scope() {
    let recorded = trace(Sabotage::Nothing, true);
    let gradients = recorded.filtered("io=grad").expect("a filter");
    let found: Vec<_> = gradients
        .iter()
        .map(|record| (record.name.as_str(), record.stage.as_deref(), record.seq_index, record.call))
        .collect();
    let order = ["fc2.weight", "fc2.bias", "fc1.weight", "fc1.bias"];
    let names: Vec<_> = (0..STEPS).flat_map(|step| order.map(|name| (format!("t{step}/{name}"), name, step))).collect();
    let expected: Vec<_> =
        names.iter().map(|(name, stage, step)| (name.as_str(), Some(*stage), Some(*step), 0)).collect();
    assert_eq!(found, expected);
    for record in &gradients {
        assert_eq!((record.layer_idx, record.tokens, record.io.as_deref()), (None, None, Some("grad")));
    }
    let of_weight = recorded.filtered("io=grad,stage=fc1.weight,seq=0").expect("a filter");
    assert_eq!(of_weight.len(), 1);
    assert_eq!(of_weight[0].shape, [6, 4]);
    // A weight has the same name, and is another record.
    assert_eq!(recorded.filtered("io=weight").expect("a filter").len(), 4);
    assert_eq!(recorded.filtered("io=out").expect("a filter").len(), STEPS);
    // The values are those of the gradient, not of the weight.
    let (weight, gradient) = (recorded.filtered("io=weight,name=fc1.weight").expect("a filter"), of_weight[0]);
    assert_ne!(weight[0].blake3, gradient.blake3);
}

#[test]
fn two_equal_runs_match_with_and_without_the_steps() {
    let reference = trace(Sabotage::Nothing, true);
    compared(&reference, &trace(Sabotage::Nothing, true)).assert_match();
    let repeats = trace(Sabotage::Nothing, false);
    let names: Vec<_> =
        repeats.records().iter().map(|record| record.name.as_str()).filter(|name| name.starts_with("fc1.w")).collect();
    assert_eq!(names, ["fc1.weight", "fc1.weight", "fc1.weight#1", "fc1.weight#2"]);
    compared(&repeats, &trace(Sabotage::Nothing, false)).assert_match();
    // If one side has no steps, the n-th gradient is compared with the n-th.
    let comparison = compared(&reference, &repeats);
    assert!(comparison.matches(), "{comparison}");
}

#[test]
fn the_sabotaged_gradient_is_the_first_divergence() {
    for with_steps in [true, false] {
        let comparison = compared(&trace(Sabotage::Nothing, with_steps), &trace(Sabotage::Doubled, with_steps));
        let first = comparison.first_divergence().expect("they differ");
        let step = with_steps.then_some(1);
        assert_eq!((&*first.key.stage, first.key.io.as_deref(), first.key.seq), ("fc2.weight", Some("grad"), step));
        assert_eq!(first.verdict, Verdict::Diverged);
        let cause = first.details.as_ref().and_then(|details| details.cause.clone());
        assert!(matches!(cause, Some(Cause::Ratio(ratio)) if (ratio - 2.0).abs() < 1e-6), "{cause:?}");
        let screen = Screen::new(&comparison).to_string();
        let name = if with_steps { "t1/fc2.weight" } else { "fc2.weight#1" };
        assert!(screen.contains(&format!("first divergence  {name} (gradient)  diverged\n")), "{screen}");
        // What comes after it in this step is right, and the next step's loss has the error of the wrong update.
        let diverged: Vec<_> = comparison.pairs.iter().filter(|pair| pair.is_divergence()).collect();
        assert_eq!(diverged[1].key.stage.as_ref(), "loss", "{screen}");
        assert!(diverged[1].details.as_ref().and_then(|details| details.origin).is_some(), "{screen}");
    }
}

#[test]
fn a_gradient_that_one_side_lacks_is_missing() {
    let comparison = compared(&trace(Sabotage::Nothing, true), &trace(Sabotage::Detached, true));
    let missing: Vec<_> = comparison.pairs.iter().filter(|pair| pair.verdict == Verdict::OnlyReference).collect();
    assert_eq!(missing.len(), 2 * STEPS);
    // The trace has weights of the same names.
    let causes = missing.iter().map(|pair| pair.details.as_ref().and_then(|details| details.cause.clone()));
    assert!(causes.into_iter().all(|cause| cause == Some(Cause::MissingStage)));
    let screen = Screen::new(&comparison).to_string();
    assert!(screen.contains("fc1.weight (gradient)") && screen.contains("reference only"), "{screen}");
}

#[test]
fn maps_and_numbers_in_names_leave_gradients_as_they_are() {
    let parameter = Var::new(&[1f32, 2.0], &Device::Cpu).expect("a variable");
    let gradients = parameter.sqr().and_then(|y| y.backward()).expect("gradients");
    let names = ["model.layers.0.self_attn.q_proj", "ffn_out-7"];
    let dir = tempfile::tempdir().expect("a temporary directory");
    let sides = ["a", "b"].map(|side| dir.path().join(side));
    for side in &sides {
        let session = TraceSession::builder().dir(side).start().expect("a session");
        session.in_scope(|| {
            for name in names {
                tap(name, parameter.as_tensor());
            }
            record_gradients(&gradients, names.map(|name| (name, &parameter)));
        });
        session.finish().expect("nothing lost");
    }
    let options = DiffOptions::default().with_map(NameMap::preset("hf").expect("a preset"));
    let comparison = diff_paths(&sides[0], &sides[1], &options, &mut |_, _| ()).expect("they can be read");
    let keys: Vec<_> = comparison.pairs.iter().map(|pair| pair.key.to_string()).collect();
    assert_eq!(keys, ["blk0/q_proj", "blk7/ffn_out", "model.layers.0.self_attn.q_proj", "ffn_out-7"]);
}

#[test]
fn filters_leave_gradients_out_and_nothing_is_asked_without_a_session() {
    let parameter = Var::new(&[1f32, 2.0], &Device::Cpu).expect("a variable");
    let gradients = parameter.sqr().and_then(|y| y.backward()).expect("gradients");
    let count = |filter: &str| {
        let session = TraceSession::builder().in_memory().filter(filter).start().expect("a session");
        session.in_scope(|| {
            record_gradients(&gradients, HashMap::from([("w", parameter.clone())]));
            record_weights([("w", &parameter)]);
        });
        session.finish().expect("nothing lost").records().len()
    };
    assert_eq!(["all", "io!=grad", "io=grad", "stage=w", "io=out"].map(count), [2, 1, 1, 1, 0]);
    record_gradients(&gradients, std::iter::from_fn(|| -> Option<(&str, Tensor)> { panic!("asked for") }));
}

#[test]
fn gradients_in_directories_are_verified_and_compared() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for (name, sabotage, format) in [("before", Sabotage::Nothing, "files"), ("after", Sabotage::Doubled, "jsonl")] {
        let session = TraceSession::builder().dir(dir.path().join(name)).format(format).capture("values").start();
        let session = session.expect("a session");
        session.in_scope(|| train(sabotage, true)).expect("it trains");
        session.finish().expect("nothing lost");
    }
    bitnet_trace::flush();
    for name in ["before", "after"] {
        let verified = bitnet_trace::tools::verify(dir.path().join(name), &mut |_, _| ()).expect("it can be read");
        assert_eq!((verified.records, verified.values), (4 + STEPS * 5, 4 + STEPS * 5));
        // The process that records is this one: it has not ended.
        let unexpected: Vec<_> =
            verified.findings.iter().filter(|finding| !finding.contains("did not end cleanly")).collect();
        assert!(unexpected.is_empty(), "{unexpected:?}");
    }
    let read = |name: &str| Trace::open(dir.path().join(name)).expect("a trace");
    let comparison = compared(&read("before"), &read("after"));
    assert_eq!(comparison.first_divergence().expect("they differ").key.to_string(), "t1/fc2.weight");
    let page = bitnet_trace::report::Html::new(&comparison).to_string();
    assert!(page.contains(r#"["fc2.weight (gradient)","fc2.weight","grad"]"#), "the page has no row for gradients");
}
