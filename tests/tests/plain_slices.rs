//! An engine without candle: its own tensor type, the core alone as a dependency, the first divergence found.
//!
//! The fixture is a package of its own, so that no feature and no dependency of the workspace reaches it.

use std::collections::BTreeSet;
use std::process::Command;

use bitnet_trace_tests::package::{Package, fixture};
use bitnet_trace_tests::{repository, succeed};

fn package() -> Package {
    let package = Package::on_core(env!("CARGO_TARGET_TMPDIR"), "plain_slices", "2024");
    for file in ["main.rs", "engine.rs", "tensor.rs"] {
        package.write(file, &fixture(&format!("plain_slices/{file}")));
    }
    package
}

/// What the package prints of the reference and this engine: from directories, from memory.
fn compared(package: &Package, engine: &str) -> [String; 2] {
    let directory = tempfile::tempdir().expect("a directory");
    let mut run = package.cargo("run");
    run.args(["--quiet", "--", engine]).arg(directory.path());
    let said = String::from_utf8(succeed(&mut run).stdout).expect("text");
    let lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.try_into().unwrap_or_else(|lines| panic!("expected two lines, found {lines:?}"))
}

#[test]
fn a_port_that_sums_in_another_order_matches_and_its_faults_are_found() {
    let package = package();
    // 5 records in each of 3 layers, and the embeddings.
    let expected = ["directories: Matches, 16 pairs", "memory: Matches, 16 pairs"];
    assert_eq!(compared(&package, "port"), expected);

    // Directories hold sketches by default: they show where and how far, values also show why.
    let [directories, memory] = compared(&package, "transposed_weight");
    assert!(directories.starts_with("directories: t0/blk1/up_weight diverged; cause: unknown"), "{directories}");
    let expected = "memory: t0/blk1/up_weight diverged; cause: dimensions 0 and 1 are exchanged";
    assert!(memory.starts_with(expected), "{memory}");

    // A factor shows in the sketches alone.
    for found in compared(&package, "wrong_scale") {
        assert!(found.contains(": t0/blk2/up_proj diverged; cause: a constant factor"), "{found}");
        assert!(found.contains("the reference times 2.000000"), "{found}");
    }
}

#[test]
fn neither_candle_nor_clap_nor_any_proc_macro_is_built_for_it() {
    let package = package();
    let mut core = Command::new(env!("CARGO"));
    core.args(["tree", "-p", "bitnet-trace-core", "-e", "normal", "--prefix", "none"]);
    // In the workspace, where other packages turn features on, and where the core alone is a dependency.
    for directory in [repository().as_path(), package.directory()] {
        let said = String::from_utf8(succeed(core.current_dir(directory)).stdout).expect("text");
        let built: BTreeSet<_> = said.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(built.contains("bitnet-trace-core") && built.contains("blake3"), "{said}");
        let unwanted = |name: &&&str| {
            let families = ["candle", "gemm", "clap", "tokenizers"];
            ["syn", "quote", "proc-macro2"].contains(*name)
                || families.iter().any(|family| name.split('-').next() == Some(*family))
        };
        assert_eq!(built.iter().find(unwanted), None, "{said}");
        // Whether they use syn or not: cargo marks them.
        assert_eq!(said.lines().find(|line| line.contains("(proc-macro)")), None, "{said}");
    }
}
