//! The message for a key that does not exist.

use proc_macro2::Span;
use syn::Error;

/// Names the nearest known key, if there is a near one, and lists all.
pub(crate) fn unknown(key: &str, span: Span, known: &[&str]) -> Error {
    let list = known.iter().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ");
    let nearest = known.iter().map(|known| (distance(key, known), known)).min();
    match nearest {
        Some((steps, known)) if steps <= key.len().max(known.len()) / 2 => {
            Error::new(span, format!("unknown argument `{key}`, did you mean `{known}`? (known: {list})"))
        }
        _ => Error::new(span, format!("unknown argument `{key}`, expected one of {list}")),
    }
}

/// Levenshtein distance, by characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let change = diagonal + usize::from(x != *y);
            diagonal = *cell;
            left = change.min(diagonal + 1).min(left + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
