//! What the library offers beside the attribute: wrapped modules, weights, the list of annotated functions.

use bitnet_trace::{TraceContext, TraceSession, TracedModule, record_weights, sites, traced};
use bitnet_trace_tests::manifest;
use candle_core::{Device, Module, ModuleT, Result, Tensor};

fn x() -> Tensor {
    Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor")
}

#[traced(stage = "reached")]
fn reached(x: &Tensor) -> Tensor {
    x.clone()
}

#[traced(stage = "fails")]
fn fails(_x: &Tensor) -> Result<Tensor> {
    candle_core::bail!("as it was asked")
}

#[traced(stage = "generic")]
#[allow(dead_code)]
fn never_instantiated<T: Clone>(x: &Tensor, _: T) -> Tensor {
    x.clone()
}

mod inner {
    /// This function is never called.
    #[bitnet_trace::traced(stage = "never", outputs("a", "b"))]
    pub(super) fn unreached(x: &super::Tensor) -> (super::Tensor, super::Tensor) {
        (x.clone(), x.clone())
    }
}

#[test]
fn a_foreign_module_is_recorded_and_stays_itself() {
    let module = TracedModule::new("norm", candle_nn::RmsNorm::new(x(), 1e-5));
    let dropout = TracedModule::new(format!("layer_{}", 3), |x: &Tensor| x * 2.0);
    let session = TraceSession::builder().in_memory().start().expect("a session");
    let (y, z) = session.in_scope(|| {
        let _layer = TraceContext::seq(0).with_layer(1).enter();
        let failed = TracedModule::new("failed", |_: &Tensor| candle_core::bail!("as it was asked"));
        assert!(Module::forward(&failed, &x()).is_err());
        (module.forward(&x()).expect("it runs"), dropout.clone().forward_t(&x(), false).expect("it runs"))
    });
    let trace = session.finish().expect("nothing lost");
    let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
    assert_eq!(names, ["t0/blk1/norm", "t0/blk1/layer_3"]);
    assert_eq!(z.to_vec1::<f32>().expect("f32"), [2.0, -4.0]);
    let alone = module.into_inner().forward(&x()).expect("it runs");
    assert_eq!(alone.to_vec1::<f32>().expect("f32"), y.to_vec1::<f32>().expect("f32"));
}

#[test]
fn weights_are_recorded_under_their_own_names_outside_the_context() {
    let record = |filter: &str| {
        let session = TraceSession::builder().in_memory().filter(filter).start().expect("a session");
        session.in_scope(|| {
            let _layer = TraceContext::layer(1).enter();
            record_weights([("model.layers.0.q_proj.weight", x()), ("a/b", x())]);
            record_weights(&std::collections::HashMap::from([("owned".to_owned(), x())]));
            drop(reached(&x()));
        });
        session.finish().expect("nothing lost")
    };
    let trace = record("all");
    let found: Vec<_> = trace
        .records()
        .iter()
        .map(|record| (record.name.as_str(), record.io.as_deref(), record.layer_idx, record.stage.as_deref()))
        .collect();
    let weight = |name| (name, Some("weight"), None, None);
    assert_eq!(
        found,
        [
            weight("model.layers.0.q_proj.weight"),
            weight("a/b"),
            weight("owned"),
            ("blk1/reached", None, Some(1), Some("reached"))
        ]
    );
    assert_eq!(record("io=weight").records().len(), 3);
    assert_eq!(record("io!=weight").records().len(), 1);
    // Without a session the iterator is not even touched.
    record_weights(std::iter::from_fn(|| -> Option<(&str, Tensor)> { panic!("asked for") }));
}

#[test]
fn every_annotated_function_is_listed_reached_or_not() {
    let here: Vec<_> = sites().into_iter().filter(|site| site.file == file!()).collect();
    let found: Vec<_> = here.iter().map(|site| (site.stage, site.function, site.module)).collect();
    let module = module_path!();
    let inner = format!("{module}::inner");
    assert_eq!(
        found,
        [
            ("reached", "reached", module),
            ("fails", "fails", module),
            ("generic", "never_instantiated", module),
            ("never", "unreached", inner.as_str()),
        ]
    );
    assert_eq!(here[3].outputs, ["a", "b"]);
    let line =
        include_str!("capture_api.rs").lines().position(|line| line.starts_with("fn reached")).expect("it is there");
    assert_eq!(here[0].line as usize, line + 1);
    // The functions of other linked crates are in the list too.
    let of_the_model: Vec<_> = sites().into_iter().filter(|site| site.module == "bitnet_models::attention").collect();
    let q_proj = of_the_model.iter().find(|site| site.stage == "q_proj").expect("listed");
    assert!(q_proj.file.ends_with("attention.rs") && q_proj.line > 0, "{q_proj:?}");
    // This call links them.
    assert!(bitnet_models::tiny::checkpoint().is_ok());
}

#[test]
fn a_run_says_which_were_never_reached() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let run = |calls: &dyn Fn()| {
        let session = TraceSession::builder().dir(dir.path()).filter("stage=other").start().expect("a session");
        session.in_scope(calls);
        session.finish().expect("nothing lost");
        bitnet_trace::flush();
        let run = manifest(dir.path());
        assert_eq!(run["sites"], sites().len());
        let unreached = run["unreached"].as_array().expect("a list").clone();
        let stages = unreached.iter().filter(|site| site["file"] == file!()).map(|site| site["stage"].clone());
        (stages.collect::<Vec<_>>(), unreached)
    };
    // The filter keeps no record. Calls count all the same, also one that fails.
    let (stages, unreached) = run(&|| drop((reached(&x()), fails(&x()))));
    assert_eq!(stages, ["generic", "never"]);
    let never = unreached.iter().find(|site| site["stage"] == "never").expect("listed");
    assert_eq!((&never["function"], &never["file"]), (&"unreached".into(), &file!().into()));
    assert!(
        never["line"].as_u64() > Some(10) && never["module"].as_str().is_some_and(|module| module.ends_with("inner"))
    );
    // A function that was reached in this run of the process stays reached.
    assert_eq!(run(&|| drop(inner::unreached(&x()))).0, ["generic"]);
    assert_eq!(run(&|| ()).0, ["generic"]);
}

#[test]
fn repeats_are_counted_over_any_number_of_steps() {
    const STEPS: usize = 1500;
    let session = TraceSession::builder().in_memory().start().expect("a session");
    // Two prompts of one run; in the second every step comes twice.
    session.in_scope(|| {
        for step in (0..STEPS).chain((0..STEPS).flat_map(|step| [step; 2])) {
            let _step = TraceContext::seq(step).enter();
            drop(reached(&x()));
        }
    });
    let trace = session.finish().expect("nothing lost");
    let found: Vec<_> = trace.records().iter().map(|record| (record.name.clone(), record.call)).collect();
    let expected = (0..STEPS)
        .map(|step| (format!("t{step}/reached"), 0))
        .chain((0..STEPS).flat_map(|step| [1, 2].map(|call| (format!("t{step}/reached#{call}"), call))));
    assert_eq!(found, expected.collect::<Vec<_>>());
}

#[test]
fn finish_says_what_is_no_longer_in_the_directory() {
    for (format, gone, text) in [
        ("files", "reached#1.trace", "1 of 3 records are not in"),
        ("jsonl", "trace.jsonl", "3 of 3 records are not in"),
    ] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let session = TraceSession::builder().dir(dir.path()).format(format).start().expect("a session");
        session.in_scope(|| (0..3).for_each(|_| drop(reached(&x()))));
        std::fs::remove_file(dir.path().join(gone)).expect("it was there");
        let error = session.finish().expect_err("records are gone");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.trace().records().len(), if format == "files" { 2 } else { 0 });
    }
}

#[test]
fn finish_reads_the_session_s_own_records_alone() {
    for format in ["files", "jsonl"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for number in 0..3 {
            let session = TraceSession::builder().dir(dir.path()).format(format).start().expect("a session");
            session.in_scope(|| (0..=number).for_each(|_| drop(reached(&x()))));
            // Files of others, damaged and slow to read.
            std::fs::write(dir.path().join(format!("other{number}.trace")), "{").expect("written");
            let trace = session.finish().expect("its own are whole");
            assert_eq!(trace.records().len(), number + 1, "{format}");
            assert!(trace.problems().is_empty(), "{:?}", trace.problems());
        }
    }
}

#[test]
fn a_context_carried_out_of_a_finished_session_records_nothing() {
    let session = TraceSession::builder().in_memory().start().expect("a session");
    let context = session.in_scope(|| {
        drop(reached(&x()));
        TraceContext::current()
    });
    assert_eq!(session.finish().expect("nothing lost").records().len(), 1);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let finished = TraceSession::builder().dir(dir.path()).start().expect("a session");
    let of_directory = finished.in_scope(TraceContext::current);
    finished.finish().expect("nothing lost");
    // The same holds while another session lives.
    let other = TraceSession::builder().in_memory().start().expect("a session");
    for context in [context, of_directory] {
        context.in_scope(|| drop(reached(&x())));
    }
    assert!(other.finish().expect("nothing lost").records().is_empty());
    let records = std::fs::read_dir(dir.path()).expect("the directory").filter(|entry| {
        entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "trace"))
    });
    assert_eq!(records.count(), 0);
}

#[test]
fn a_tensor_that_says_more_than_its_storage_holds_is_lost_alone() {
    use candle_core::{CpuStorage, Storage, op::BackpropOp};

    let tensor = Tensor::from_storage(Storage::Cpu(CpuStorage::F32(vec![1.0])), 2, BackpropOp::none(), false);
    let session = TraceSession::builder().in_memory().start().expect("a session");
    session.in_scope(|| {
        drop(reached(&tensor));
        drop(reached(&x()));
    });
    let error = session.finish().expect_err("a record is lost");
    let [loss] = error.losses() else { panic!("{error}") };
    assert_eq!((loss.cause.as_str(), loss.count), ("a view does not fit the storage of its tensor", 1));
    assert!(loss.first.contains("shape [2]") && loss.first.contains("holds 1 element"), "{}", loss.first);
    assert_eq!(error.trace().records().len(), 1);
}
