//! What becomes of a source text.

mod hostile;
mod kept;
mod loops;
mod places;
mod returns;
mod stages;

use bitnet_trace_annotate::{Annotated, Style, annotate};

/// The text, annotated as `bitnet-trace init` does.
fn init(source: &str) -> Annotated {
    annotate(source, Style::Init).unwrap_or_else(|error| panic!("{error}\n{source}"))
}

/// The attributes of the functions of a text, in their order.
fn attributes(source: &str) -> Vec<String> {
    init(source).functions.into_iter().map(|function| function.attribute).collect()
}

/// The attribute of the only function of a text.
fn attribute(source: &str) -> String {
    let attributes = attributes(source);
    assert_eq!(attributes.len(), 1, "{source}");
    attributes.into_iter().next().unwrap_or_default()
}

/// The functions that were passed over, each with its line and the reason.
fn passed_over(source: &str) -> Vec<String> {
    let passed = init(source).passed_over;
    passed.into_iter().map(|passed| format!("{} (line {}): {}", passed.function, passed.line, passed.reason)).collect()
}
