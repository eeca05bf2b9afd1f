//! The statements that `locals` adds for one binding.

use proc_macro2::{Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::{Attribute, Expr, Pat, PatIdent, Stmt, Token};

/// How a variable that was just bound is recorded.
pub(crate) struct Record {
    pub(crate) variable: Ident,
    /// `::bitnet_trace::private::binding!(..)`
    pub(crate) binding: TokenStream,
    pub(crate) library: TokenStream,
    pub(crate) when: Option<Ident>,
    /// Where `locals(..)` names the variable.
    pub(crate) named: Option<Span>,
}

impl Record {
    // Output: ::bitnet_trace::private::local(..., &q);
    //
    // The call has no bound on the variable's type, so it forces no type to be known. A variable that `locals(..)`
    // names must hold a tensor; its error underlines the name there.
    pub(crate) fn after(&self, attrs: &[Attribute]) -> Stmt {
        let Self { variable, binding, library, when, named } = self;
        let span = variable.span().resolved_at(Span::mixed_site());
        let call = match named {
            None => {
                let function = Ident::new(if when.is_some() { "local_when" } else { "local" }, span);
                let when = when.as_ref().map(|when| quote_spanned! { span => *#when, });
                quote_spanned! { span => #library::private::#function(#when #binding, &#variable); }
            }
            Some(at) => {
                let at = at.resolved_at(Span::mixed_site());
                let named = Ident::new(&variable.to_string(), at.resolved_at(variable.span()));
                let value = quote_spanned! { at => &#named };
                let function = Ident::new(if when.is_some() { "named_local_when" } else { "named_local" }, at);
                let when = when.as_ref().map(|when| quote_spanned! { at => *#when, });
                // The compiler underlines a call from its first token on.
                let library = library.clone().into_iter().map(|mut token| {
                    token.set_span(at.resolved_at(token.span()));
                    token
                });
                let library: TokenStream = library.collect();
                quote_spanned! { at => #library::private::#function(#when #binding, #value); }
            }
        };
        let configured = configured(attrs);
        Stmt::Expr(
            Expr::Verbatim(quote_spanned! { span =>
                #(#configured)*
                #[allow(static_mut_refs, unreachable_code, clippy::used_underscore_binding)]
                #call
            }),
            None,
        )
    }

    /// `::bitnet_trace::private::passed(..., value)`
    pub(crate) fn passed(&self, value: &impl ToTokens) -> TokenStream {
        let Self { variable, binding, library, when, .. } = self;
        let span = variable.span().resolved_at(Span::mixed_site());
        let function = Ident::new(if when.is_some() { "passed_when" } else { "passed" }, span);
        let when = when.as_ref().map(|when| quote_spanned! { span => *#when, });
        quote_spanned! { span => #library::private::#function(#when #binding, #value) }
    }

    // Input:  let mut q = self.wq.forward(x).await?;
    // Output: let q = self.wq.forward(x).await?;
    //         let mut q = ::bitnet_trace::private::passed(..., q);
    pub(crate) fn rebound(&self, pat: &mut Pat, attrs: &[Attribute]) -> Stmt {
        let Self { variable, .. } = self;
        let span = variable.span().resolved_at(Span::mixed_site());
        let mutability = take_mut(pat, variable);
        let passed = self.passed(variable);
        let configured = configured(attrs);
        Stmt::Expr(
            Expr::Verbatim(quote_spanned! { span =>
                #(#configured)*
                #[allow(unreachable_code, clippy::used_underscore_binding)]
                let #mutability #variable = #passed;
            }),
            None,
        )
    }
}

/// The attributes of a `let` that decide whether it is there.
fn configured(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    fn has_cfg(tokens: TokenStream) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Group(group) => has_cfg(group.stream()),
            TokenTree::Ident(word) => word == "cfg",
            _ => false,
        })
    }
    attrs.iter().filter(|attr| {
        attr.path().is_ident("cfg") || attr.path().is_ident("cfg_attr") && has_cfg(attr.meta.to_token_stream())
    })
}

/// Takes the `mut` of a variable out of its pattern.
fn take_mut(pat: &mut Pat, variable: &Ident) -> Option<Token![mut]> {
    match pat {
        Pat::Ident(PatIdent { ident, by_ref: None, mutability, .. }) if ident == variable => mutability.take(),
        Pat::Tuple(tuple) => tuple.elems.iter_mut().find_map(|pat| take_mut(pat, variable)),
        Pat::Type(typed) => take_mut(&mut typed.pat, variable),
        Pat::Paren(inner) => take_mut(&mut inner.pat, variable),
        _ => None,
    }
}
