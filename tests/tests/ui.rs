//! What compiles (`ui/ok`), and what the compiler says of what does not (`ui/err`, messages pinned).
//!
//! The messages are those of the compiler named here; with another one, which words them otherwise,
//! only what compiles is tested. `TRYBUILD=overwrite` writes the messages anew.

use std::process::Command;

/// The compiler whose messages are pinned.
const PINNED: &str = "rustc 1.95.0";

#[test]
fn what_compiles_and_what_is_said_of_what_does_not() {
    let version = Command::new("rustc").arg("--version").output().expect("a compiler").stdout;
    let cases = trybuild::TestCases::new();
    cases.pass("ui/ok/*.rs");
    if String::from_utf8_lossy(&version).starts_with(PINNED) {
        cases.compile_fail("ui/err/*.rs");
    }
}
