//! Text is only added, and only once.

use bitnet_trace_annotate::{Style, annotate};
use proptest::prelude::*;

use super::init;

#[test]
fn line_endings_and_tabs_are_kept() {
    let source =
        "use a::b;\r\n\r\nimpl Mlp {\r\n\t/// Grüße\r\n\tfn forward(&self) -> Tensor {\r\n\t\tx\r\n\t}\r\n}\r\n";
    let expected = "use a::b;\r\nuse bitnet_trace::traced;\r\n\r\nimpl Mlp {\r\n\t/// Grüße\r\n\
                    \t#[traced(stage = \"mlp\", locals)]\r\n\tfn forward(&self) -> Tensor {\r\n\t\tx\r\n\t}\r\n}\r\n";
    assert_eq!(init(source).source, expected);
    let mixed = "fn a() -> Tensor { x }\r\nfn b() -> Tensor { x }\nfn c() -> Tensor { x }";
    let expected = "use bitnet_trace::traced;\r\n\r\n#[traced(locals)]\r\nfn a() -> Tensor { x }\r\n\
                    #[traced(locals)]\r\nfn b() -> Tensor { x }\n#[traced(locals)]\nfn c() -> Tensor { x }";
    assert_eq!(init(mixed).source, expected);
}

#[test]
fn a_file_with_nothing_to_annotate_is_the_same_text() {
    for source in ["", "\n", "\u{feff}", "#!/bin/sh", "// nothing\r\n", "fn f() {}\n", "use a::b;"] {
        let annotated = init(source);
        assert_eq!((annotated.source.as_str(), annotated.functions.len()), (source, 0));
    }
}

/// Pieces of a file that each need care.
const PIECES: [&str; 14] = [
    "use candle::Tensor;",
    "use anyhow::Result; use std::fmt;",
    "// a comment",
    "/* a\n// comment */",
    "/// docs\n#[inline] // why",
    "fn f() -> Tensor { x }",
    "pub(crate) async unsafe fn g<T>() -> Result<Tensor> where T: A { x }",
    "impl Mlp {\n\tfn forward(&self) -> Tensor { x }\n}",
    "impl Module for Mlp { fn forward(&self) -> Tensor { x } }",
    "mod m { pub fn f() -> Tensor { x } }",
    "#[traced] fn h() -> Tensor { x }",
    "const fn c() -> Tensor { x }",
    "impl Öl {\n    #[cfg(a)]\n    pub fn forward(&self, pos: usize) -> Tensor { for l in &self.h {} }\n}",
    "fn no() {}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn without_the_added_text_it_is_the_source_and_annotating_again_changes_nothing(
        pieces in prop::collection::vec((0..PIECES.len(), prop::sample::select(vec!["\n", "\r\n", " ", "\n\n"])), 0..8),
        locals: bool,
    ) {
        let mut source = String::new();
        for (piece, end) in pieces {
            source += PIECES[piece];
            // A comment to the end of the line would take in what follows.
            source += if PIECES[piece].contains("//") && end == " " { "\n" } else { end };
        }
        let style = if locals { Style::Locals } else { Style::Init };
        let Ok(annotated) = annotate(&source, style) else { return Ok(()) };
        let mut remaining = vec![annotated.source.clone()];
        for function in &annotated.functions {
            remaining = remaining.iter().flat_map(|text| without(text, &function.attribute)).collect();
        }
        if remaining.iter().all(|text| text.contains("use bitnet_trace::traced;")) {
            remaining = remaining.iter().flat_map(|text| without(text, "use bitnet_trace::traced;")).collect();
        }
        prop_assert!(remaining.contains(&source), "{remaining:?}\n{source:?}");
        let again = annotate(&annotated.source, style).expect("what was annotated is Rust");
        prop_assert_eq!(&again.source, &annotated.source);
        prop_assert!(again.functions.is_empty());
    }
}

/// The text without the first occurrence of what was added: with its line, that line and the empty one below it, or with
/// the space that stands in front of it or behind it.
fn without(text: &str, added: &str) -> Vec<String> {
    let Some((before, after)) = text.split_once(added) else { return Vec::new() };
    let start = before.trim_end_matches([' ', '\t']);
    let mut found = Vec::new();
    if start.is_empty() || start.ends_with(['\n', '\u{feff}']) {
        for end in ["\n", "\r\n", "\n\n", "\r\n\r\n"] {
            found.extend(after.strip_prefix(end).map(|after| format!("{start}{after}")));
        }
    }
    found.extend(after.strip_prefix(' ').map(|after| format!("{before}{after}")));
    found.extend(before.strip_suffix(' ').map(|before| format!("{before}{after}")));
    found
}
