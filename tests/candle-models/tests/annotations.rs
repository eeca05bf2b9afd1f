//! The lines that are added to the models.

use bitnet_trace_annotate::{Style, annotate};
use bitnet_trace_candle_models::{by_hand, models, plain};

/// The lines that were added to a text, each with the line after it. Panics if anything else was changed.
fn added<'t>(plain: &str, annotated: &'t str) -> Vec<(&'t str, &'t str)> {
    let mut plain = plain.lines().peekable();
    let mut lines = annotated.lines().peekable();
    let mut added = Vec::new();
    while let Some(line) = lines.next() {
        if plain.next_if_eq(&line).is_none() {
            added.push((line.trim_start(), lines.peek().copied().unwrap_or_default().trim_start()));
        }
    }
    assert_eq!(plain.next(), None);
    added
}

fn text(texts: &[(&str, &'static str)], file: &str) -> &'static str {
    texts.iter().find(|(name, _)| *name == file).unwrap_or_else(|| panic!("{file} is not in the package")).1
}

#[test]
fn four_lines_annotate_quantized_llama_and_none_is_inside_a_body() {
    let [plain, annotated] = [plain::TEXTS, by_hand::TEXTS].map(|texts| text(texts, "quantized_llama"));
    let added = added(plain, annotated);
    assert_eq!(added.len(), 4, "{added:?}");
    for (line, next) in added {
        let is_attribute = line.starts_with("#[traced(") && next.contains("fn ");
        assert!(is_attribute || (line, next.starts_with("use ")) == ("use bitnet_trace::traced;", true), "{line}");
    }
}

#[test]
fn by_hand_each_line_is_an_attribute_before_a_function() {
    assert_eq!(by_hand::TEXTS.iter().map(|(file, _)| *file).collect::<Vec<_>>(), ["quantized_llama", "llama", "qwen2"]);
    for (file, annotated) in by_hand::TEXTS {
        let added = added(text(plain::TEXTS, file), annotated);
        let functions = added.iter().filter(|(line, next)| line.starts_with("#[traced(") && next.contains("fn "));
        assert_eq!(functions.count() + 1, added.len(), "{file}: {added:?}");
    }
}

#[test]
fn every_model_is_annotated_by_whole_lines() {
    assert_eq!(models::TEXTS.len(), 5);
    for (file, annotated) in models::TEXTS {
        let added = added(text(plain::TEXTS, file), annotated);
        let functions = added.iter().filter(|(line, next)| line.starts_with("#[traced(") && next.contains("fn "));
        assert_eq!(functions.count() + 1, added.len(), "{file}: {added:?}");
        assert!(added.len() > 7, "{file}: {added:?}");
        assert!(added.iter().any(|(line, _)| line.contains("layers(")), "{file}: {added:?}");
    }
}

#[test]
fn the_lines_are_those_that_init_writes() {
    for (file, annotated) in models::TEXTS {
        let written = annotate(text(plain::TEXTS, file), Style::Init).unwrap_or_else(|error| panic!("{file}: {error}"));
        let lines = written.source.lines().zip(annotated.lines());
        let differ: Vec<_> = lines.filter(|(written, line)| written != line).take(3).collect();
        assert!(written.source == *annotated, "{file}: init writes, and build/annotations.rs adds: {differ:#?}");
    }
}
