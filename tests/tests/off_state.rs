//! Without the feature the attribute is nothing: nothing built for it, nothing left of it in the
//! code, nothing changed in the numbers.
//!
//! Each test builds packages alone, as features unify inside one build.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitnet_trace_tests::{repository, succeed};

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(repository()).env_remove("BITNET_TRACE_DIR");
    command
}

/// What `package` brings as the first parts of a dependency tree, by depth.
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

/// Direct dependencies of a package, where the tree shows it first.
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
    // The same look at the other state finds what it looks for.
    let on = tree(&["--features", "trace"]);
    for package in ["blake3", "serde", "serde_json"] {
        assert!(children(&on, "bitnet-trace").contains(package), "{package}");
    }
    for package in ["syn", "quote", "proc-macro2"] {
        assert!(children(&on, "bitnet-trace-macros").contains(package), "{package}");
    }
}

/// Not used: with these the features of what candle depends on are the workspace's, and candle is
/// not built again.
const SHARED: &str = "clap = { version = \"4\", features = [\"derive\"] }\nonce_cell = \"1\"\nrand = \"0.10\"\n";

/// The fixture as a package of its own, in a directory that stays the same: its path is part of
/// every symbol.
struct Package(PathBuf);

impl Package {
    fn new() -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("off_state");
        fs::create_dir_all(directory.join("src")).expect("a directory");
        let library = repository().join("bitnet-trace");
        let manifest = format!(
            "[package]\nname = \"off-state\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
             [features]\ntrace = [\"bitnet-trace/trace\"]\n\n\
             [dependencies]\nbitnet-trace = {{ path = '{}' }}\ncandle-core = \"0.11.1\"\n{SHARED}\n{}",
            library.display(),
            profiles()
        );
        fs::write(directory.join("Cargo.toml"), manifest).expect("written");
        fs::copy(repository().join("Cargo.lock"), directory.join("Cargo.lock")).expect("copied");
        Self(directory)
    }

    fn assembly(&self, source: &str, features: &[&str]) -> Vec<u8> {
        let assembly = self.0.join("off_state.s");
        let _ = fs::remove_file(&assembly);
        fs::write(self.0.join("src/lib.rs"), source).expect("written");
        let emit = format!("--emit=asm={}", assembly.display());
        let mut command = Command::new(env!("CARGO"));
        command.args(["rustc", "--lib", "--target-dir"]).arg(target_directory()).args(features);
        command.args(["--", &emit, "-C", "opt-level=3", "-C", "codegen-units=1", "-C", "debuginfo=0"]);
        let _ = succeed(command.current_dir(&self.0));
        fs::read(assembly).expect("the assembly")
    }
}

/// The profiles of the workspace, so that dependencies built for it serve here too.
fn profiles() -> String {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).expect("the workspace's manifest");
    manifest[manifest.find("[profile.dev]").expect("profiles")..].to_owned()
}

/// Where this test itself was built.
fn target_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory").to_owned()
}

/// Every `#[traced...]` replaced by as many blanks: lines and columns stay, as panics name them.
fn without_attributes(source: &str) -> String {
    let mut plain = source.to_owned();
    while let Some(start) = plain.find("#[traced") {
        let end = start
            + plain[start..]
                .find(")]\n")
                .into_iter()
                .chain(plain[start..].find("ced]\n").map(|at| at + 2))
                .min()
                .expect("an end")
            + 2;
        plain.replace_range(start..end, &" ".repeat(end - start));
    }
    plain
}

#[test]
fn nothing_is_left_of_it_in_the_assembly() {
    let source = fs::read_to_string(repository().join("tests/fixtures/off_state/lib.rs")).expect("the fixture");
    let plain = without_attributes(&source).replace("use bitnet_trace::traced;", "                         ");
    assert!(!plain.contains("traced(") && !plain.contains("#[traced") && plain.len() == source.len(), "{plain}");

    let package = Package::new();
    let annotated = package.assembly(&source, &[]);
    assert!(annotated == package.assembly(&plain, &[]), "the attribute leaves something in the assembly");
    // With the feature the same comparison sees the difference.
    assert!(annotated != package.assembly(&source, &["--features", "trace"]));
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
