//! The stated minimum version of Rust is not older than any dependency's.

use std::process::Command;

use bitnet_trace_tests::{repository, succeed};

/// Parses a version; `1.89` and `1.89.0` are equal.
fn version(text: &str) -> Vec<u32> {
    let mut parts: Vec<u32> = text.split('.').map(|part| part.parse().expect("a number")).collect();
    parts.resize(3, 0);
    parts
}

#[test]
fn the_stated_rust_version_is_true() {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--filter-platform"]).arg(host());
    let output = succeed(command.current_dir(repository()));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().find(|package| package["name"] == "bitnet-models").expect("ours");
    let stated = version(ours["rust_version"].as_str().expect("it is stated"));
    let newer: Vec<_> = packages
        .iter()
        .filter(|package| package["rust_version"].as_str().is_some_and(|needed| version(needed) > stated))
        .map(|package| format!("{} needs {}", package["name"], package["rust_version"]))
        .collect();
    assert!(newer.is_empty(), "{newer:?}");
}

fn host() -> String {
    let output = succeed(Command::new("rustc").arg("-vV").current_dir(repository()));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host").to_owned()
}
