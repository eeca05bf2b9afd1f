//! Puts the attributes and the import into the text.

use crate::functions::Found;
use crate::imports::{Import, Place, import};
use crate::parse::Text;
use crate::stages::Arguments;
use crate::{Annotated, Function};

const IMPORT: &str = "use bitnet_trace::traced;";

/// Text to insert at a byte of the code.
struct Insertion {
    at: usize,
    text: String,
}

pub(crate) fn apply(
    source: &str,
    text: Text<'_>,
    file: &syn::File,
    found: Found<'_>,
    attributes: Vec<Arguments>,
) -> Annotated {
    let mut insertions = Vec::new();
    let mut functions = Vec::new();
    let import = import(file, text);
    let mut uses_the_name = false;
    for (function, Arguments { arguments, note }) in found.functions.iter().zip(attributes) {
        let path = if matches!(import, Import::Taken) || !function.scope.modules.is_empty() {
            "bitnet_trace::traced"
        } else {
            uses_the_name = true;
            "traced"
        };
        let attribute = format!("#[{path}({arguments})]");
        insertions.push(above(text.code, function.at, &attribute));
        functions.push(Function {
            name: function.scope.path(&function.sig.ident),
            line: function.line,
            attribute,
            note,
        });
    }
    if let (true, Import::Missing(place)) = (uses_the_name, import) {
        // In front of the attribute of a function that begins at the same place.
        insertions.insert(
            0,
            match place {
                Place::Before(at) => above(text.code, at, IMPORT),
                Place::After(at) => below(text.code, at, IMPORT),
                Place::First(at) => {
                    let mut insertion = above(text.code, at, IMPORT);
                    if insertion.text.ends_with('\n') {
                        insertion.text.push_str(line_ending(text.code, at));
                    }
                    insertion
                }
            },
        );
    }
    insertions.sort_by_key(|insertion| insertion.at);
    let mut annotated = String::with_capacity(source.len() + insertions.len() * 64);
    let mut from = 0;
    for Insertion { at, text: inserted } in insertions {
        let at = at + text.skipped;
        annotated.push_str(&source[from..at]);
        annotated.push_str(&inserted);
        from = at;
    }
    annotated.push_str(&source[from..]);
    Annotated { source: annotated, functions, passed_over: found.passed_over }
}

/// A line of its own above what begins at `at`, or the same line if something else stands in front of that.
fn above(code: &str, at: usize, line: &str) -> Insertion {
    let start = code[..at].rfind('\n').map_or(0, |end| end + 1);
    let indent = &code[start..at];
    if indent.trim().is_empty() {
        Insertion { at: start, text: format!("{indent}{line}{}", line_ending(code, at)) }
    } else {
        Insertion { at, text: format!("{line} ") }
    }
}

/// A line of its own below what ends at `at`, or the same line if something else stands behind that.
fn below(code: &str, at: usize, line: &str) -> Insertion {
    let rest = code[at..].split('\n').next().unwrap_or_default();
    let ending = line_ending(code, at);
    if !rest.trim().is_empty() && !rest.trim_start().starts_with("//") {
        return Insertion { at, text: format!(" {line}") };
    }
    match code[at..].find('\n') {
        Some(end) => Insertion { at: at + end + 1, text: format!("{line}{ending}") },
        None => Insertion { at: code.len(), text: format!("{ending}{line}{ending}") },
    }
}

/// The line ending that the text has around `at`.
fn line_ending(code: &str, at: usize) -> &'static str {
    let end = code[..at].rfind('\n').or_else(|| code[at..].find('\n').map(|end| at + end));
    if end.is_some_and(|end| code[..end].ends_with('\r')) { "\r\n" } else { "\n" }
}
