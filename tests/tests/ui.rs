//! Code that compiles (`ui/ok`), and code that does not, with the compiler's messages (`ui/err`).
//!
//! The messages are those of the pinned compiler. With another compiler, which words them differently, they
//! are skipped, unless `REQUIRE_RUSTC_TEXTS=1`. `TRYBUILD=overwrite` writes the messages again.

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
