//! Texts that are not the source of a model.

use bitnet_trace_annotate::{Error, MAX_BYTES, Style, annotate};

fn error(source: &str) -> Error {
    annotate(source, Style::Init).expect_err("not the source of a model")
}

#[test]
fn what_is_not_rust_is_refused_with_its_place() {
    for (source, expected) in [
        ("fn f() -> Tensor {", "line 1"),
        ("fn f() {}\n\nfn 3() {}\n", "line 3, column 4: not Rust that can be read: expected identifier"),
        ("#!/bin/sh\necho $(ls) done\n", "line 2, column"),
        ("fn f() {}\n\"never closed", "line 2"),
        ("\0\0\0", "line 1, column 1"),
        ("# A document\n\nIt's text.\n", "line 1"),
    ] {
        let error = error(source).to_string();
        assert!(error.contains(expected), "{source:?}: {error}");
    }
}

#[test]
fn a_text_longer_than_a_source_file_is_refused() {
    let found = error(&" ".repeat(MAX_BYTES + 1)).to_string();
    assert_eq!(
        found,
        format!("the file has {} bytes; expected Rust source text of at most {MAX_BYTES}", MAX_BYTES + 1)
    );
    let long = "// a comment\n".repeat(MAX_BYTES / 26) + "fn f() -> Tensor { x }\n";
    assert_eq!(annotate(&long, Style::Init).expect("Rust").functions.len(), 1);
}

/// Each shape opens levels of the syntax tree in another way.
fn nested(levels: usize) -> Vec<String> {
    let around = |open: &str, inside: &str, close: &str| {
        format!("fn f() -> Tensor {{ let x = {}{inside}{}; }}", open.repeat(levels), close.repeat(levels))
    };
    let of_type =
        |open: &str, close: &str| format!("fn f(x: {}u8{}) -> Tensor {{}}", open.repeat(levels), close.repeat(levels));
    vec![
        around("(", "1", ")"),
        around("[", "1", "]"),
        around("{", "1", "}"),
        around("f(", "1", ")"),
        around("!", "1", ""),
        around("-", "1", ""),
        around("&", "1", ""),
        around("*", "1", ""),
        around("|a| ", "1", ""),
        around("|a, b| ", "1", ""),
        around("return ", "1", ""),
        around("", "1", " + 1"),
        around("1 = ", "1", ""),
        around("", "1", ".a()"),
        around("", "1", "?"),
        around("", "1", " as u8"),
        around("if a {} else ", "{}", ""),
        around("match a { _ => ", "1", "}"),
        around("if let A(", "x", ") = y {}"),
        of_type("&", ""),
        of_type("A<", ">"),
        of_type("A<u8, ", ">"),
        of_type("(", ",)"),
        of_type("fn() -> ", ""),
        of_type("impl Fn() -> ", ""),
        format!("{}{}", "mod m {".repeat(levels), "}".repeat(levels)),
        format!("use {}a{};", "a::".repeat(levels), ""),
        format!("use {}a{};", "{".repeat(levels), "}".repeat(levels)),
        format!("fn f() -> {}Tensor{} {{}}", "Option<".repeat(levels), ">".repeat(levels)),
        format!("fn f({}x{}: u8) -> Tensor {{}}", "(".repeat(levels), ")".repeat(levels)),
        format!("impl {}A{} {{ fn forward() -> Tensor {{}} }}", "&".repeat(levels), ""),
        format!("#[{}a{}] fn f() -> Tensor {{}}", "a(".repeat(levels), ")".repeat(levels)),
        format!("fn f() -> Tensor {{ m!{}a{} }}", "(".repeat(levels), ")".repeat(levels)),
    ]
}

#[test]
fn nesting_that_would_end_the_process_is_refused() {
    for levels in [100, 1300, 3900, 200_000] {
        for source in nested(levels) {
            let shape: String = source.chars().take(60).collect();
            match annotate(&source, Style::Init) {
                Ok(_) => assert!(levels < 5_000, "{levels} levels of {shape}"),
                Err(Error::TooDeep { line: 1, .. }) => assert!(levels > 500, "{levels} levels of {shape}"),
                // Some of these are not Rust, which the parser may find out deep inside.
                Err(Error::Syntax { .. }) => {}
                Err(other) => panic!("{levels} levels of {shape}: {other}"),
            }
        }
    }
}

#[test]
fn long_code_is_not_deep_code() {
    let functions = "fn f() -> Tensor { x }\n".repeat(5_000);
    let methods =
        format!("impl A {{ {} }}", "#[inline] pub fn f(&self) -> Tensor { if a { b } else { c } }\n".repeat(5_000));
    let table = format!("const T: &[i32] = &[{}];", "-1, ".repeat(50_000));
    let arms = format!("fn f() -> Tensor {{ match x {{ {} }} }}", "A { .. } => { g() } B => h(), ".repeat(5_000));
    let statements = format!("fn f() -> Tensor {{ {} }}", "let x = |a| a + 1; if a < b { c(); } ".repeat(5_000));
    for (source, count) in [(functions, 5_000), (methods, 5_000), (table, 0), (arms, 1), (statements, 1)] {
        assert_eq!(annotate(&source, Style::Init).expect("Rust").functions.len(), count, "{}", &source[..60]);
    }
}
