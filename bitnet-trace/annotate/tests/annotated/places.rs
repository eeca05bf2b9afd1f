//! Where the attributes and the import are put. The snapshots hold whole texts.

use insta::assert_snapshot;

use super::init;

#[test]
fn a_model() {
    let source = "\
//! A model.
#![allow(dead_code)]

use crate::quantized_nn::RmsNorm;
use candle::{Module, Result, Tensor};

use std::collections::HashMap;

/// The blocks.
pub struct Model {
    layers: Vec<Layer>,
}

impl Module for Mlp {
    fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let up = self.up.forward(xs)?;
        self.down.forward(&up)
    }
}

impl Model {
    /// Computes the logits.
    #[inline]
    // For all tokens.
    pub(crate) fn forward(&mut self, xs: &Tensor, index_pos: usize) -> Result<Tensor> {
        for layer in self.layers.iter_mut() {
            xs = layer.forward(&xs)?;
        }
        Ok(xs)
    }
}

mod helpers {
    pub fn mask(size: usize) -> super::Result<super::Tensor> {
        todo!()
    }
}
";
    assert_snapshot!(init(source).source);
}

#[test]
fn a_function_that_shares_its_line() {
    assert_snapshot!(init("use a::b; impl X { #[inline] fn f(&self) -> Tensor { x } fn g() -> Tensor { y } }").source);
}

/// Where the import goes: `@` in the text.
#[test]
fn the_import_stands_where_rustfmt_sorts_it() {
    for marked in [
        "@use candle::Tensor;\nuse std::fmt;\n\nF",
        "use anyhow::Result;\n@use candle::Tensor;\n\nF",
        "use super::with_tracing;\n@use candle::Tensor;\n\nF",
        "use crate::a;\nuse self::b;\n@\nuse candle::Tensor;\n\nF",
        "use bitnet_trace::tap;\n@use candle::Tensor;\nF",
        "use anyhow::Result; // errors\n@\nF",
        "use anyhow::Result;\n@// of candle\nuse candle::Tensor;\nF",
        "// of candle\n@use candle::Tensor;\nF",
        "//! A file.\n\n@use candle::Tensor;\nF",
        "#![allow(x)]\n@use candle::Tensor;\nF",
        "#[cfg(feature = \"mkl\")]\nextern crate intel_mkl_src;\n\n@use candle::Tensor;\nF",
        "@#[cfg(unix)]\nuse candle::Tensor;\nF",
        "\u{feff}@use candle::Tensor;\nF",
        "#!/usr/bin/env rust-script\n@use candle::Tensor;\nF",
    ] {
        let f = "fn f() -> Tensor { x }\n";
        let source = marked.replace('@', "").replace('F', f);
        let expected =
            marked.replace('@', "use bitnet_trace::traced;\n").replace('F', &format!("#[traced(locals)]\n{f}"));
        assert_eq!(init(&source).source, expected);
    }
}

#[test]
fn a_file_without_imports_gets_one_in_front_of_its_first_item() {
    for (source, expected) in [
        ("F", "@\n\nF"),
        ("// Copyright\n\n/// Docs\nF", "// Copyright\n\n@\n\n/// Docs\nF"),
        ("//! A file.\n\n// about f\nF", "//! A file.\n\n@\n\n// about f\nF"),
        ("#![no_std]\nmod a;\nF", "#![no_std]\n@\n\nmod a;\nF"),
        ("/*\n// no\n*/\nF", "/*\n// no\n*/\n@\n\nF"),
        ("/* a\n// b */ F", "/* a\n// b */ @ F"),
    ] {
        let f = "fn f() -> Tensor { x }";
        let annotated = init(&source.replace('F', f)).source;
        let same_line = expected.contains("*/ @");
        let attribute = if same_line { "#[traced(locals)] " } else { "#[traced(locals)]\n" };
        let expected = expected.replace('@', "use bitnet_trace::traced;").replace('F', &format!("{attribute}{f}"));
        assert_eq!(annotated, expected, "{source}");
    }
}

#[test]
fn the_import_is_added_once_and_only_if_the_name_is_free() {
    let f = "fn f() -> Tensor { x }\n";
    for present in ["use bitnet_trace::traced;", "use bitnet_trace::{tap, traced};", "use bitnet_trace::*;"] {
        assert_eq!(init(&format!("{present}\n{f}")).source, format!("{present}\n#[traced(locals)]\n{f}"));
    }
    for taken in ["use other::traced;", "use other::{a as traced};", "macro_rules! traced { () => {} }", "mod traced;"]
    {
        assert_eq!(init(&format!("{taken}\n{f}")).source, format!("{taken}\n#[bitnet_trace::traced(locals)]\n{f}"));
    }
    let nested = "use a::b;\nmod m {\n    fn f() -> Tensor { x }\n}\n";
    let expected = "use a::b;\nmod m {\n    #[bitnet_trace::traced(locals)]\n    fn f() -> Tensor { x }\n}\n";
    assert_eq!(init(nested).source, expected);
}
