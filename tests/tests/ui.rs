//! What compiles (`ui/ok`), and what the compiler says of what does not (`ui/err`, messages pinned).
//!
//! The messages are those of one compiler, the pinned one; with another, which words them otherwise, their
//! test is skipped, unless `REQUIRE_RUSTC_TEXTS=1`. `TRYBUILD=overwrite` writes the messages anew.

use bitnet_trace_tests::is_pinned_compiler;

#[test]
fn what_compiles() {
    trybuild::TestCases::new().pass("ui/ok/*.rs");
}

#[test]
fn what_is_said_of_what_does_not_compile() {
    if is_pinned_compiler("the messages in tests/ui/err") {
        trybuild::TestCases::new().compile_fail("ui/err/*.rs");
    }
}
