//! Where `use bitnet_trace::traced;` belongs.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Item, ItemUse, UseTree};

use crate::parse::Text;

/// How the file names the attribute.
pub(crate) enum Import {
    /// It has the name already.
    Present,
    /// Another item has the name, or may have it: the attribute is written with its path.
    Taken,
    /// It is to be imported there.
    Missing(Place),
}

/// A place for the import, by the byte of the code.
pub(crate) enum Place {
    /// In front of the item that begins there.
    Before(usize),
    /// Behind the item that ends there.
    After(usize),
    /// In front of the first item, with an empty line between.
    First(usize),
}

pub(crate) fn import(file: &syn::File, text: Text<'_>) -> Import {
    let mut ours = false;
    let mut other = false;
    for item in &file.items {
        match item {
            Item::Use(item) => names(&item.tree, &mut Vec::new(), &mut |path, name| {
                let from_us = path.first().is_some_and(|root| root == "bitnet_trace");
                ours |= from_us && path.len() == 1 && (name == "traced" || name == "*");
                other |= !from_us && name == "traced";
            }),
            Item::Macro(item) => other |= item.ident.as_ref().is_some_and(|name| name == "traced"),
            Item::Mod(item) => other |= item.ident == "traced",
            _ => {}
        }
    }
    if ours {
        Import::Present
    } else if other {
        Import::Taken
    } else {
        Import::Missing(place(file, text))
    }
}

/// Calls `found` for each name that a `use` brings in, with the path before it.
fn names(tree: &UseTree, path: &mut Vec<String>, found: &mut impl FnMut(&[String], &str)) {
    match tree {
        UseTree::Path(inner) => {
            path.push(inner.ident.to_string());
            names(&inner.tree, path, found);
            path.pop();
        }
        UseTree::Name(name) => found(path, &name.ident.to_string()),
        UseTree::Rename(name) => found(path, &name.rename.to_string()),
        UseTree::Glob(_) => found(path, "*"),
        UseTree::Group(group) => group.items.iter().for_each(|tree| names(tree, path, found)),
    }
}

fn place(file: &syn::File, text: Text<'_>) -> Place {
    let mut group: Vec<&ItemUse> = Vec::new();
    for item in &file.items {
        let Item::Use(item) = item else {
            if group.is_empty() {
                continue;
            }
            break;
        };
        if let Some(last) = group.last() {
            let between = text.code.get(range(last).end..range(item).start).unwrap_or_default();
            if has_empty_line(between) {
                break;
            }
        }
        group.push(item);
    }
    let later = group.iter().position(|item| goes_after(&item.tree));
    match (group.last(), later) {
        (Some(_), Some(later)) => {
            let at = range(group[later]).start;
            // What is written above an import belongs to it, but above the first one to all of them.
            let from = later.checked_sub(1).map_or(at, |before| range(group[before]).end);
            Place::Before(comment_above(text, from, at))
        }
        (Some(last), None) => Place::After(range(last).end),
        (None, _) => {
            let (from, at) = first_item(file, text);
            Place::First(comment_above(text, from, at))
        }
    }
}

/// Whether rustfmt sorts this import behind ours.
fn goes_after(tree: &UseTree) -> bool {
    let root = match tree {
        UseTree::Path(path) => path.ident.to_string(),
        UseTree::Name(name) => name.ident.to_string(),
        UseTree::Rename(name) => name.ident.to_string(),
        UseTree::Glob(_) => return false,
        UseTree::Group(_) => return true,
    };
    match (root.as_str(), tree) {
        ("self" | "super" | "crate", _) => false,
        ("bitnet_trace", UseTree::Path(path)) => match &*path.tree {
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                name.starts_with(char::is_uppercase) || name.as_str() > "traced"
            }
            _ => true,
        },
        (root, _) => root > "bitnet_trace",
    }
}

/// The bytes of an import, from its documentation and attributes to its semicolon.
fn range(item: &ItemUse) -> std::ops::Range<usize> {
    let (first, last) = ends(item.to_token_stream());
    first.start..last.end
}

fn ends(tokens: TokenStream) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
    let mut tokens = tokens.into_iter().map(|token| token.span().byte_range());
    let first = tokens.next().unwrap_or(0..0);
    let last = tokens.last().unwrap_or_else(|| first.clone());
    (first, last)
}

/// Where the first item begins, and where what stands in front of it ends: the file's own documentation and attributes.
fn first_item(file: &syn::File, text: Text<'_>) -> (usize, usize) {
    let from = file.attrs.last().map_or(0, |attr| ends(attr.to_token_stream()).1.end);
    let at = file.items.first().map_or(text.code.len(), |item| ends(item.to_token_stream()).0.start);
    (from, at)
}

/// Whether a line of what stands between two items is empty. The first piece ends a line, the last one begins one.
fn has_empty_line(between: &str) -> bool {
    let lines: Vec<_> = between.split('\n').collect();
    lines.len() > 2 && lines[1..lines.len() - 1].iter().any(|line| line.trim().is_empty())
}

/// The start of the comment lines that stand directly above `at`, or `at`. Between `from` and `at` there are only
/// comments and spaces.
fn comment_above(text: Text<'_>, from: usize, at: usize) -> usize {
    let Some(between) = text.code.get(from..at) else { return at };
    let Some((above, indent)) = between.rsplit_once('\n') else { return at };
    // A block comment may hold lines that look like comments of their own.
    if !indent.trim().is_empty() || between.contains("/*") {
        return at;
    }
    let mut start = at;
    let mut position = from + above.len() + 1;
    let mut lines = above.split('\n').rev().peekable();
    while let Some(line) = lines.next() {
        // The first line is the rest of the one that something else ends on, unless the text begins here.
        let is_whole = lines.peek().is_some() || from == 0;
        if !is_whole || !line.trim_start().starts_with("//") {
            break;
        }
        position -= line.len() + 1;
        start = position;
    }
    start
}
