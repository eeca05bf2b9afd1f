//! What compiles (`ui/ok`), and what the compiler says of what does not (`ui/err`, messages pinned).
//!
//! The messages are those of one compiler, the pinned one; with another, which words them otherwise, they
//! are skipped, unless `REQUIRE_RUSTC_TEXTS=1`. `TRYBUILD=overwrite` writes the messages anew.

use bitnet_trace_tests::is_pinned_compiler;

/// In one go: apart, the two would build all dependencies twice.
#[test]
fn what_compiles_and_what_is_said_of_what_does_not() {
    let cases = trybuild::TestCases::new();
    cases.pass("ui/ok/*.rs");
    if is_pinned_compiler("the messages in tests/ui/err") {
        cases.compile_fail("ui/err/*.rs");
    }
}
