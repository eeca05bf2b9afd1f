//! Bounds how deeply code is nested, before a parser that calls itself reads it.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::Error;

/// The tokens that may be open at the same time: more than in any file of candle-transformers (`--test init` reads all).
pub(crate) const MAX_LEVELS: usize = 4000;

/// Refuses code whose syntax tree could be deeper than [`MAX_LEVELS`].
pub(crate) fn check(tokens: &TokenStream) -> Result<(), Error> {
    match levels(tokens, MAX_LEVELS) {
        Ok(_) => Ok(()),
        Err(line) => Err(Error::TooDeep { line, limit: MAX_LEVELS }),
    }
}

/// A bound on the depth of the syntax tree of these tokens: every token of a stretch may open a level, and the deepest
/// group in it adds its own. A stretch ends where no level stays open. The error is the line on which a stretch begins
/// that has more levels than the limit.
fn levels(tokens: &TokenStream, limit: usize) -> Result<usize, usize> {
    let mut deepest = 0;
    let mut stretch = Stretch::default();
    let mut tokens = tokens.clone().into_iter().peekable();
    while let Some(token) = tokens.next() {
        if stretch.tokens == 0 {
            stretch.line = token.span().start().line;
        }
        stretch.tokens += 1;
        let ends = match &token {
            TokenTree::Group(group) => {
                if stretch.tokens >= limit {
                    return Err(stretch.line);
                }
                stretch.inside =
                    stretch.inside.max(levels(&group.stream(), limit - stretch.tokens).map_err(|line| {
                        // The outermost stretch is where a person begins to look.
                        line.min(stretch.line)
                    })?);
                group.delimiter() == Delimiter::Brace && tokens.peek().is_none_or(begins_anew)
            }
            TokenTree::Punct(punct) => match punct.as_char() {
                ';' => true,
                ',' => !stretch.may_hold_commas,
                '<' | '|' => {
                    stretch.may_hold_commas = true;
                    false
                }
                _ => false,
            },
            TokenTree::Ident(_) | TokenTree::Literal(_) => false,
        };
        let open = stretch.tokens + stretch.inside;
        if open > limit {
            return Err(stretch.line);
        }
        deepest = deepest.max(open);
        if ends {
            stretch = Stretch::default();
        }
    }
    Ok(deepest)
}

/// Tokens that may all be open at the same time.
#[derive(Default)]
struct Stretch {
    tokens: usize,
    /// The levels of its deepest group.
    inside: usize,
    /// It has the `<` of a type or the `|` of a closure, inside of which a comma ends nothing.
    may_hold_commas: bool,
    /// Its first line.
    line: usize,
}

/// Whether what stands after a block is not a part of the same expression.
fn begins_anew(next: &TokenTree) -> bool {
    match next {
        TokenTree::Ident(ident) => ident != "else" && ident != "as",
        TokenTree::Punct(punct) => punct.as_char() == '#',
        TokenTree::Group(_) | TokenTree::Literal(_) => false,
    }
}
