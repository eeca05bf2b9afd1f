//! The README shows what `#[traced]` expands to; this test compares it with the pinned compiler's output. With
//! another compiler it is skipped, unless `REQUIRE_RUSTC_TEXTS=1`.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use bitnet_trace_tests::{PINNED_COMPILER, is_pinned_compiler, repository, succeed};

/// What `cargo expand block::attn_residual` prints of `bitnet-models`, with these features: the
/// compiler's expansion, parsed and formatted in the same way.
fn expanded(features: &[&str]) -> String {
    // `-Zunpretty` needs RUSTC_BOOTSTRAP, which `cargo expand` sets too. It is set only for our crates: build
    // scripts of dependencies read the variable, and all dependencies would be built again.
    let directory = tempfile::tempdir().expect("a temporary directory");
    let wrapper = directory.path().join("rustc");
    fs::write(&wrapper, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec \"$@\"\n").expect("written");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("executable");
    let mut command = Command::new(env!("CARGO"));
    command.args(["rustc", "-q", "-p", "bitnet-models", "--lib", "--profile", "test"]).args(features);
    command.args(["--", "-Zunpretty=expanded"]).current_dir(repository()).env("RUSTC_WORKSPACE_WRAPPER", &wrapper);
    let source = String::from_utf8(succeed(&mut command).stdout).expect("UTF-8");
    let file: syn::File = syn::parse_str(&source).expect("Rust");
    let block = file.items.iter().find_map(|item| match item {
        syn::Item::Mod(module) if module.ident == "block" => module.content.as_ref(),
        _ => None,
    });
    let function = block.expect("the module").1.iter().find_map(|item| match item {
        syn::Item::Fn(function) if function.sig.ident == "attn_residual" => Some(function.clone()),
        _ => None,
    });
    let function = function.expect("the function");
    let file: syn::File = syn::parse_quote! { #function };
    prettyplease::unparse(&file)
}

/// The code block after a line of the README.
fn shown(readme: &str, after: &str) -> String {
    let rest = readme.split_once(after).unwrap_or_else(|| panic!("the README has no line {after:?}")).1;
    let block = rest.split_once("```rust\n").expect("a code block").1;
    block.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn the_expansion_in_the_readme_is_what_comes_out() {
    // Another compiler may print the same code differently.
    if !is_pinned_compiler("the expansion in README.md") {
        return;
    }
    let readme = fs::read_to_string(repository().join("README.md")).expect("the README");
    assert!(readme.contains(PINNED_COMPILER), "the README names the compiler");
    assert_eq!(shown(&readme, "With the feature `trace`:"), expanded(&["--features", "trace"]));
    assert_eq!(shown(&readme, "Without it:"), expanded(&[]));
}
