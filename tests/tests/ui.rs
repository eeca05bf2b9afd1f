//! Code that compiles (`ui/ok`), and code that does not, with the compiler's messages (`ui/err`).
//!
//! The messages are those of the pinned compiler. With another compiler, which words them differently, they
//! are skipped, unless `REQUIRE_RUSTC_TEXTS=1`. `TRYBUILD=overwrite` writes the messages again.

use std::fs;
use std::path::Path;

use bitnet_trace_tests::package::{ON, Package};
use bitnet_trace_tests::{is_pinned_compiler, succeed};

/// Each program in `ui/ok` is built and run in a package that shares the workspace's dependencies: trybuild would
/// build all of them once more.
#[test]
fn what_compiles() {
    let package = Package::new(env!("CARGO_TARGET_TMPDIR"), "ui_ok", "2024");
    package.write("lib.rs", "");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/ok");
    let mut names = Vec::new();
    for entry in fs::read_dir(&cases).expect("the cases") {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().expect("a name").to_string_lossy().replace('-', "_");
        let source = fs::read_to_string(&path).expect("a program");
        // Paths in a case are relative to it.
        let fixtures = format!("{}/../../fixtures/", cases.display());
        package.write(&format!("bin/{name}.rs"), &source.replace("../../fixtures/", &fixtures));
        names.push(name);
    }
    assert!(names.len() >= 4, "{names:?}");
    for name in names {
        let _ = succeed(package.cargo("run").args(ON).args(["--quiet", "--bin", &name]));
    }
}

#[test]
fn what_is_said_of_what_does_not_compile() {
    if is_pinned_compiler("the messages in tests/ui/err") {
        trybuild::TestCases::new().compile_fail("ui/err/*.rs");
    }
}
