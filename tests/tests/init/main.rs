//! `bitnet-trace init` on models: what it writes compiles and records, and candle's own models stay what they are.

#[allow(missing_docs, unreachable_pub)]
mod annotated;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitnet_trace::TraceSession;
use bitnet_trace_annotate::{Annotated, Reason, Style, annotate};
use bitnet_trace_tests::{repository, succeed};
use candle_core::{Device, Tensor};

/// `annotated.rs` is compiled as a part of this test: the attributes stand where the compiler allows them.
#[test]
fn what_init_writes_compiles_and_records() {
    let made = annotate(include_str!("plain.rs"), Style::Init).expect("Rust").source;
    assert_eq!(made, include_str!("annotated.rs"), "annotated.rs is what `bitnet-trace init` makes of plain.rs");

    let block = || annotated::Block { mlp: annotated::Mlp { scale: 2.0 } };
    let mut model = annotated::Model { layers: vec![block(), block()] };
    let x = Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor");
    let session = TraceSession::builder().in_memory().start().expect("a session");
    session.in_scope(|| model.forward(&x, 7)).expect("logits");
    let trace = session.finish().expect("nothing was lost");
    let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
    for name in [
        "t7/shifted.0",
        "t7/model.let.x",
        "t7/blk0/mlp.let.up",
        "t7/blk0/mlp",
        "t7/blk1/twice",
        "t7/blk1/block",
        "t7/model",
    ] {
        assert!(names.contains(&name), "{name} is missing: {names:?}");
    }
}

/// Over every file of candle-transformers: text is only added, in whole lines; the result is Rust, and annotating it
/// again changes nothing.
#[test]
fn every_model_of_candle_transformers_keeps_its_text() {
    let files = sources(&candle_transformers().join("src"));
    assert!(files.len() > 100, "only {} files were found", files.len());
    let mut count = 0;
    for file in files {
        let shown = file.display();
        let source = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{shown}: {error}"));
        for style in [Style::Init, Style::Locals] {
            let annotated = annotate(&source, style).unwrap_or_else(|error| panic!("{shown}: {error}"));
            let without: String = annotated.source.split_inclusive('\n').filter(|line| !is_added(line)).collect();
            assert!(without == source, "{shown}: what is left of the annotated text is not the source");
            let again = annotate(&annotated.source, style).unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert!(again.source == annotated.source && again.functions.is_empty(), "{shown}: annotated twice");
            assert_eq!(
                again.passed_over.iter().filter(|passed| passed.reason == Reason::Annotated).count(),
                annotated.functions.len()
            );
            count += annotated.functions.len();
        }
    }
    assert!(count > 2000, "only {count} functions were annotated");
}

#[test]
fn the_llama_of_candle_transformers_is_annotated_as_a_person_would() {
    let path = candle_transformers().join("src/models/quantized_llama.rs");
    let source = fs::read_to_string(path).expect("readable");
    let Annotated { functions, .. } = annotate(&source, Style::Init).expect("Rust");
    for (name, expected) in [
        ("ModelWeights::forward", "#[traced(stage = \"model_weights\", seq = index_pos, layers(layer), locals)]"),
        ("LayerWeights::forward_attn", "#[traced(locals)]"),
        ("Mlp::forward", "#[traced(stage = \"mlp\", locals)]"),
    ] {
        let found = functions.iter().find(|function| function.name == name).map(|function| function.attribute.as_str());
        assert_eq!(found, Some(expected), "{name}");
    }
}

/// The files of candle-transformers hold no line of this kind themselves.
fn is_added(line: &str) -> bool {
    let line = line.trim_start();
    ["#[traced(", "#[bitnet_trace::traced(", "use bitnet_trace::traced;"].iter().any(|added| line.starts_with(added))
}

/// The folder of the version that is in Cargo.lock.
fn candle_transformers() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--format-version", "1", "--locked", "--offline", "--all-features"]);
    let metadata: serde_json::Value =
        serde_json::from_slice(&succeed(cargo.current_dir(repository())).stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let package = packages.iter().find(|package| package["name"] == "candle-transformers");
    let manifest =
        package.expect("candle-transformers is a dependency of tests/candle-models")["manifest_path"].as_str();
    Path::new(manifest.expect("a path")).parent().expect("a folder").to_owned()
}

/// The `.rs` files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
