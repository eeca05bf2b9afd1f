//! Without the feature the attribute costs nothing: nothing is built for it, nothing of it is left in the code,
//! and the numbers do not change.
//!
//! Each test builds packages alone, because features unify inside one build.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use bitnet_trace_tests::package::{ON, Package, fixture, with_locals, without_macros};
use bitnet_trace_tests::{repository, succeed};

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(repository()).env_remove("BITNET_TRACE_DIR");
    command
}

/// The dependency tree of `bitnet-models`: the depth and the package of each line.
fn tree(features: &[&str]) -> Vec<(usize, String)> {
    let arguments =
        ["tree", "-e", "normal,build", "-p", "bitnet-models", "--prefix", "depth", "--format", " {lib} {p}"];
    let output = succeed(cargo(&arguments).args(features));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text.lines().filter_map(|line| {
        let digits = line.find(|c: char| !c.is_ascii_digit())?;
        let depth = line[..digits].parse().ok()?;
        let package = line[digits..].split_whitespace().nth(1)?;
        Some((depth, package.to_owned()))
    });
    lines.collect()
}

/// The direct dependencies of a package. The tree lists them where the package first appears.
fn children(tree: &[(usize, String)], package: &str) -> BTreeSet<String> {
    let at = tree.iter().position(|(_, name)| name == package).expect("the package is in the tree");
    let depth = tree[at].0;
    let below = tree[at + 1..].iter().take_while(|(below, _)| *below > depth);
    below.filter(|(below, _)| *below == depth + 1).map(|(_, name)| name.clone()).collect()
}

#[test]
fn nothing_is_built_for_it() {
    let off = tree(&[]);
    assert_eq!(
        children(&off, "bitnet-trace"),
        BTreeSet::from(["bitnet-trace-macros".to_owned(), "candle-core".to_owned()])
    );
    assert_eq!(children(&off, "bitnet-trace-macros"), BTreeSet::new());
    assert!(off.iter().all(|(_, name)| name != "blake3"));
    // In the other state the same check finds them.
    let on = tree(&["--features", "trace"]);
    assert!(children(&on, "bitnet-trace").contains("bitnet-trace-core"));
    for package in ["blake3", "serde_core", "serde_json"] {
        assert!(children(&on, "bitnet-trace-core").contains(package), "{package}");
    }
    for package in ["syn", "quote", "proc-macro2"] {
        assert!(children(&on, "bitnet-trace-macros").contains(package), "{package}");
    }
}

/// The compiler's output for a package's library: MIR, LLVM IR, assembly.
fn emitted(package: &Package, source: &str, features: &[&str]) -> [(&'static str, Vec<u8>); 3] {
    package.write("lib.rs", source);
    let mut command = package.cargo("rustc");
    command.args(["--lib"]).args(features).arg("--");
    let files = ["mir", "llvm-ir", "asm"].map(|kind| (kind, package.directory().join(format!("emitted.{kind}"))));
    for (kind, file) in &files {
        let _ = fs::remove_file(file);
        command.arg(format!("--emit={kind}={}", file.display()));
    }
    command.args(["-C", "opt-level=3", "-C", "codegen-units=1", "-C", "debuginfo=0"]);
    let _ = succeed(&mut command);
    files.map(|(kind, file)| (kind, fs::read(file).expect("what was emitted")))
}

#[test]
fn nothing_is_left_of_it_in_the_code() {
    let source = fixture("every_shape/lib.rs");
    let plain = without_macros(&source);
    for edition in EDITIONS {
        let package = every_shape(edition);
        let annotated = emitted(&package, &source, &[]);
        for ((kind, annotated), (_, plain)) in annotated.iter().zip(emitted(&package, &plain, &[])) {
            assert!(!plain.is_empty() && *annotated == plain, "edition {edition}: something is left in the {kind}");
        }
        // With the feature the same comparison sees the difference.
        for ((kind, off), (_, on)) in annotated.iter().zip(emitted(&package, &source, &ON)) {
            assert!(*off != on, "edition {edition}: {kind}");
        }
    }
}

const EDITIONS: [&str; 2] = ["2021", "2024"];

fn every_shape(edition: &str) -> Package {
    let package = Package::new(env!("CARGO_TARGET_TMPDIR"), "bitnet_trace_tests_every_shape", edition);
    package.write("main.rs", &fixture("every_shape/main.rs"));
    package
}

#[test]
fn a_crate_of_every_shape_runs_alone() {
    for edition in EDITIONS {
        let package = every_shape(edition);
        let run = |source: &str, features: &[&str]| {
            package.write("lib.rs", source);
            let output = succeed(package.cargo("run").args(features));
            String::from_utf8(output.stdout).expect("UTF-8")
        };
        let source = fixture("every_shape/lib.rs");
        let off = run(&source, &[]);
        assert!(off.contains("Tensor[[2], f32]"), "{off}");
        assert_eq!(off, run(&without_macros(&source), &[]));
        assert_eq!(off, run(&source, &ON));
        assert_eq!(off, run(&with_locals(&source), &ON));
    }
}

#[test]
fn the_whole_capture_api_is_there_in_both_states() {
    let package = Package::new(env!("CARGO_TARGET_TMPDIR"), "bitnet_trace_tests_capture_api", "2024");
    package.write("lib.rs", &fixture("capture_api/lib.rs"));
    for features in [&[][..], &ON] {
        let output = succeed(package.cargo("test").args(features));
        assert!(String::from_utf8_lossy(&output.stdout).contains("test it_runs ... ok"));
    }
}

#[test]
fn the_numbers_are_the_same_in_all_three_states() {
    let logits = |features: &[&str], directory: Option<&Path>| {
        let mut command = cargo(&["run", "-q", "-p", "bitnet-models", "--example", "logits"]);
        command.args(features);
        if let Some(directory) = directory {
            command.env("BITNET_TRACE_DIR", directory);
        }
        String::from_utf8(succeed(&mut command).stdout).expect("UTF-8")
    };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let off = logits(&[], None);
    assert_eq!(off.lines().count(), (6 + 2) * 14, "six positions of prefill, two of decode, 14 logits each");
    assert_eq!(off, logits(&["--features", "trace"], None));
    assert_eq!(off, logits(&["--features", "trace"], Some(dir.path())));
    assert!(dir.path().join("t0_logits.trace").exists());
}
