//! The annotated function. Its body stays a group of raw tokens: completion in editors works while the body is
//! half typed, and every span in it stays as the user wrote it. Only `locals` and `layers` parse it.

use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Result, ReturnType, Signature, Token, Type, Visibility};

/// A function split into the parts that an expansion puts together again.
pub(crate) struct Function {
    /// Outer attributes, then the inner ones of the body (as outer attributes of the same meaning).
    pub(crate) attrs: Vec<Attribute>,
    /// `pub`, `pub(crate)` or nothing.
    pub(crate) vis: Visibility,
    /// Everything from `const`, `async`, `unsafe` to the where-clause.
    pub(crate) sig: Signature,
    /// The body with its braces, inner attributes taken out.
    pub(crate) body: Group,
}

impl Parse for Function {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attrs = input.call(Attribute::parse_outer)?;
        refuse_other_items(input)?;
        let vis = input.parse()?;
        let sig: Signature = input.parse()?;
        if input.peek(Token![;]) {
            return Err(Error::new(
                sig.span(),
                "`#[traced]` needs a function with a body; put it on the implementation",
            ));
        }
        let body = body(input.parse()?)?;
        let body = hoist_inner_attributes(&body, &mut attrs)?;
        Ok(Self { attrs, vis, sig, body })
    }
}

impl Function {
    /// Refuses functions whose meaning no expansion can keep.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Some(token) = &self.sig.constness {
            return Err(Error::new(
                token.span(),
                "`#[traced]` cannot record a `const fn`: recording runs code that the compiler cannot evaluate",
            ));
        }
        if let Some(attr) = self.attrs.iter().find(|attr| attr.path().is_ident("track_caller")) {
            return Err(Error::new(
                attr.path().span(),
                "`#[traced]` and `#[track_caller]` cannot be combined: the body moves into a closure, whose caller is this library",
            ));
        }
        if matches!(self.sig.output, ReturnType::Default) {
            return Err(Error::new(
                self.sig.ident.span(),
                "`#[traced]` records what a function returns, and this one returns nothing; use `bitnet_trace::tap` inside it",
            ));
        }
        if let ReturnType::Type(_, ty) = &self.sig.output
            && let Type::ImplTrait(opaque) = &**ty
        {
            return Err(Error::new(
                opaque.span(),
                "`#[traced]` cannot see into an `impl Trait` that is the whole return value; name the type, or box the future",
            ));
        }
        Ok(())
    }
}

/// Gives a clear message for the items that people try: syn would only say "expected `fn`".
fn refuse_other_items(input: ParseStream<'_>) -> Result<()> {
    let ahead = input.fork();
    let _: Visibility = ahead.parse()?;
    let item = if ahead.peek(Token![impl]) {
        "an `impl` block; put it on each function inside, so that each has its own stage"
    } else if ahead.peek(Token![mod]) {
        "a module; put it on the functions inside"
    } else if ahead.peek(Token![struct]) || ahead.peek(Token![enum]) {
        "a type; put it on functions"
    } else if ahead.peek(Token![trait]) {
        "a trait; put it on the functions of its implementations"
    } else if ahead.peek(Token![use])
        || ahead.peek(Token![static])
        || ahead.peek(Token![type])
        || ahead.peek(Token![let])
        || ahead.peek(Token![const]) && ahead.peek2(syn::Ident) && ahead.peek3(Token![:])
    {
        "this kind of item"
    } else {
        return Ok(());
    };
    Err(Error::new(ahead.span(), format!("`#[traced]` is for functions, not for {item}")))
}

/// Returns the body in its braces. A `macro_rules!` passes its `$body:block` on in an invisible group.
fn body(token: TokenTree) -> Result<Group> {
    match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Ok(group),
        TokenTree::Group(group) if group.delimiter() == Delimiter::None => {
            let mut inside = group.stream().into_iter();
            match (inside.next(), inside.next()) {
                (Some(token), None) => body(token),
                _ => Err(Error::new(group.span(), "expected the function's body in braces")),
            }
        }
        other => Err(Error::new(other.span(), "expected the function's body in braces")),
    }
}

// Input:  { #![allow(unused)] let y = x; y }
// Output: #[allow(unused)] among the function's attributes, and { let y = x; y }
//
// The body of a closure cannot have inner attributes (E0658).
fn hoist_inner_attributes(body: &Group, attrs: &mut Vec<Attribute>) -> Result<Group> {
    let starts_with_inner = {
        let mut tokens = body.stream().into_iter();
        matches!(tokens.next(), Some(TokenTree::Punct(hash)) if hash.as_char() == '#')
            && matches!(tokens.next(), Some(TokenTree::Punct(bang)) if bang.as_char() == '!')
    };
    if !starts_with_inner {
        return Ok(body.clone());
    }
    let split = |input: ParseStream<'_>| {
        let inner = input.call(Attribute::parse_inner)?;
        Ok((inner, input.parse::<TokenStream>()?))
    };
    let (inner, rest) = syn::parse::Parser::parse2(split, body.stream())?;
    attrs.extend(inner.into_iter().map(|attr| Attribute { style: syn::AttrStyle::Outer, ..attr }));
    let mut group = Group::new(Delimiter::Brace, rest);
    group.set_span(body.span());
    Ok(group)
}

/// Where an error about the return value belongs: the return type as written, or the name.
pub(crate) fn return_span(sig: &Signature) -> Span {
    match &sig.output {
        ReturnType::Type(_, ty) => {
            let tokens: Vec<TokenTree> = ty.to_token_stream().into_iter().collect();
            tokens.first().map_or_else(|| ty.span(), TokenTree::span)
        }
        ReturnType::Default => sig.ident.span(),
    }
}
