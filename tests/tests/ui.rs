//! Code that compiles (`ui/ok`), and code that does not, with the compiler's messages (`ui/err`).
//!
//! The messages are those of the pinned compiler. With another compiler, which words them differently, their
//! test is skipped, unless `REQUIRE_RUSTC_TEXTS=1`. `TRYBUILD=overwrite` writes the messages again.

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
