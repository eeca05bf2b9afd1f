//! The functions of a file that return tensors.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Attribute, Block, FnModifiers, ImplItem, Item, LitStr, Signature, TraitItem, Visibility};

use crate::blocks::{Passes, Structs};
use crate::parse::Text;
use crate::returns::returns_tensors;
use crate::scope::{Scope, has_attribute, is_test};
use crate::{PassedOver, Reason};

/// A function to annotate.
pub(crate) struct Candidate<'a> {
    pub(crate) scope: Scope,
    pub(crate) sig: &'a Signature,
    /// The byte of the code where it begins after its attributes.
    pub(crate) at: usize,
    pub(crate) line: usize,
    pub(crate) passes: Passes,
}

pub(crate) struct Found<'a> {
    pub(crate) functions: Vec<Candidate<'a>>,
    pub(crate) passed_over: Vec<PassedOver>,
    /// The stages of the functions that are annotated already.
    pub(crate) stages: HashSet<String>,
}

pub(crate) fn find<'a>(file: &'a syn::File, text: Text<'_>) -> Found<'a> {
    let found = Found { functions: Vec::new(), passed_over: Vec::new(), stages: HashSet::new() };
    let mut search = Search { text, structs: Structs::of(&file.items), found };
    search.items(&file.items, &Scope::default());
    search.found
}

struct Search<'a, 't> {
    text: Text<'t>,
    structs: Structs<'a>,
    found: Found<'a>,
}

/// The parts of a function, whatever item it is.
struct Parts<'a> {
    attrs: &'a [Attribute],
    vis: &'a Visibility,
    modifiers: &'a FnModifiers,
    sig: &'a Signature,
    body: &'a Block,
}

impl<'a> Search<'a, '_> {
    fn items(&mut self, items: &'a [Item], scope: &Scope) {
        for item in items {
            match item {
                Item::Fn(item) => self.function(
                    &Parts {
                        attrs: &item.attrs,
                        vis: &item.vis,
                        modifiers: &item.modifiers,
                        sig: &item.sig,
                        body: &item.block,
                    },
                    scope,
                ),
                Item::Impl(item) if !is_test(&item.attrs) => {
                    let scope = scope.implementation(item);
                    for item in &item.items {
                        let ImplItem::Fn(item) = item else { continue };
                        let (vis, modifiers) = (&item.vis, &item.modifiers);
                        let parts = Parts { attrs: &item.attrs, vis, modifiers, sig: &item.sig, body: &item.block };
                        self.function(&parts, &scope);
                    }
                }
                Item::Trait(item) if !is_test(&item.attrs) => {
                    let scope = scope.of_trait(item);
                    for item in &item.items {
                        let TraitItem::Fn(item) = item else { continue };
                        let Some(body) = &item.default else { continue };
                        let (vis, modifiers) = (&Visibility::Inherited, &item.modifiers);
                        self.function(&Parts { attrs: &item.attrs, vis, modifiers, sig: &item.sig, body }, &scope);
                    }
                }
                Item::Mod(item) if !is_test(&item.attrs) => {
                    if let Some((_, items)) = &item.content {
                        self.items(items, &scope.module(&item.ident));
                    }
                }
                _ => {}
            }
        }
    }

    fn function(&mut self, parts: &Parts<'a>, scope: &Scope) {
        let Parts { attrs, sig, .. } = *parts;
        if is_test(attrs) {
            return;
        }
        let Some(returned) = returns_tensors(&sig.output, self.text) else { return };
        let line = sig.fn_token.span.start().line;
        if let Err(reason) = annotatable(attrs, sig, returned) {
            if reason == Reason::Annotated {
                self.found.stages.insert(stage_of(attrs).unwrap_or_else(|| sig.ident.unraw().to_string()));
            }
            self.found.passed_over.push(PassedOver { function: scope.path(&sig.ident), line, reason });
            return;
        }
        self.found.functions.push(Candidate {
            scope: scope.clone(),
            sig,
            at: start(parts),
            line,
            passes: Passes::of(sig, parts.body, scope, &self.structs),
        });
    }
}

fn annotatable(attrs: &[Attribute], sig: &Signature, returned: Result<(), Reason>) -> Result<(), Reason> {
    if has_attribute(attrs, "traced") {
        return Err(Reason::Annotated);
    }
    if sig.constness.is_some() {
        return Err(Reason::Const);
    }
    if has_attribute(attrs, "track_caller") {
        return Err(Reason::TrackCaller);
    }
    returned
}

/// The byte where a function begins, after its documentation and attributes.
fn start(parts: &Parts<'_>) -> usize {
    let mut tokens = TokenStream::new();
    parts.vis.to_tokens(&mut tokens);
    parts.modifiers.defaultness.to_tokens(&mut tokens);
    parts.sig.to_tokens(&mut tokens);
    tokens.into_iter().next().map_or(0, |first| first.span().byte_range().start)
}

/// The stage that a `#[traced(stage = "..")]` names.
fn stage_of(attrs: &[Attribute]) -> Option<String> {
    let arguments = attrs.iter().filter(|attr| attr.path().segments.last().is_some_and(|last| last.ident == "traced"));
    arguments.filter_map(|attr| attr.meta.require_list().ok()).find_map(|list| {
        // Arguments that are not of this form, such as `layers(layer)` and `locals(q as _)`, may follow.
        list.tokens.clone().into_iter().collect::<Vec<_>>().windows(3).find_map(|window| {
            if window[0].to_string() != "stage" || window[1].to_string() != "=" {
                return None;
            }
            syn::parse2::<LitStr>(window[2].to_token_stream()).ok().map(|stage| stage.value())
        })
    })
}
