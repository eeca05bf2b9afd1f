//! Rewrites an annotated `async fn` as a function that returns a future. The library's future then wraps
//! the body's future directly, without another state machine of the compiler around both.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::punctuated::Punctuated;
use syn::{Attribute, FnArg, Pat, PatIdent, Receiver, ReceiverKind, ReturnType, Token};

use crate::args::Args;
use crate::blocks::{async_block, braced};
use crate::func::Function;

/// Attributes that mean the same on a function that returns a future. Any other attribute may be a macro
/// that expects an `async fn`; `must_use` would apply to the future instead of its output.
const INERT: [&str; 11] =
    ["allow", "cfg", "cold", "deny", "deprecated", "doc", "expect", "forbid", "inline", "rustfmt", "warn"];

/// A function whose parameters move into the future under their own names.
pub(crate) struct Moved {
    /// The parameters without `mut`: only the variables inside the future change.
    inputs: Punctuated<FnArg, Token![,]>,
    /// `let x = x;` for each, as the compiler does for an `async fn`.
    moves: TokenStream,
}

/// Returns the parts of the rewritten function, or `None` if the function must stay an `async fn`.
///
/// It must stay one if a parameter is a pattern or has a name that lints do not want used (`_x`), if the
/// body does not name `self`, if the return type holds an `impl Trait` (whose lifetimes depend on the
/// edition), or if it has attributes other than [`INERT`].
pub(crate) fn moved(function: &Function, args: &Args) -> Option<Moved> {
    let Function { attrs, sig, body, .. } = function;
    if sig.asyncness.is_none() || !attrs.iter().all(is_inert) || names(sig.output.to_token_stream(), "impl") {
        return None;
    }
    let mut inputs = sig.inputs.clone();
    let mut moves = TokenStream::new();
    for input in &mut inputs {
        match input {
            FnArg::Receiver(receiver) => {
                let settings = [&args.layer, &args.seq, &args.when];
                let mut used = settings.into_iter().map(ToTokens::to_token_stream).chain([body.stream()]);
                if !receiver.attrs.is_empty() || !used.any(|tokens| names(tokens, "self")) {
                    return None;
                }
                moves.extend(whole(receiver));
            }
            FnArg::Typed(argument) => {
                let Pat::Ident(PatIdent { attrs, by_ref: None, mutability, ident, subpat: None }) = &mut *argument.pat
                else {
                    return None;
                };
                if !argument.attrs.is_empty() || !attrs.is_empty() || ident.to_string().starts_with('_') {
                    return None;
                }
                let mutability = mutability.take();
                moves.extend(quote_spanned! { Span::mixed_site() => let #mutability #ident = #ident; });
            }
        }
    }
    Some(Moved { inputs, moves })
}

/// An `async` block captures only the fields of `self` that it names. `self` cannot be bound again, so a
/// statement that names all of it captures it.
fn whole(receiver: &Receiver) -> Option<TokenStream> {
    let this = &receiver.self_token;
    let by_value = !matches!(receiver.kind, ReceiverKind::Reference(..));
    by_value.then(|| quote_spanned! { Span::mixed_site() => let _ = &#this; })
}

fn is_inert(attr: &Attribute) -> bool {
    attr.path().segments.first().is_some_and(|segment| INERT.iter().any(|name| segment.ident == name))
}

fn names(tokens: TokenStream, word: &str) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => names(group.stream(), word),
        TokenTree::Ident(ident) => ident == word,
        _ => false,
    })
}

// Input:
//     #[traced(layer = layer)]
//     async fn forward(&self, mut x: Tensor, layer: usize) -> Result<Tensor> { ... }
//
// Output:
//     fn forward(&self, x: Tensor, layer: usize) -> impl ::core::future::Future<Output = Result<Tensor>> {
//         ::bitnet_trace::private::future_with_settings(async move {
//             <the type, as in `async_block`>
//             let mut x = x;
//             let layer = layer;
//             ::bitnet_trace::private::Call::in_future(::bitnet_trace::private::site!(...)).layer(layer).begin();
//             { ... }
//         })
//     }
//
// The token `impl` has this crate's edition, so that it captures every lifetime whatever the user's edition.
pub(crate) fn expand(
    function: &Function,
    moved: &Moved,
    library: &TokenStream,
    site: &TokenStream,
    when: Option<&TokenStream>,
    settings: &TokenStream,
    span: Span,
) -> TokenStream {
    let Function { attrs, vis, sig, body } = function;
    let Moved { inputs, moves } = moved;
    let begin = (!settings.is_empty())
        .then(|| quote_spanned! { span => #library::private::Call::in_future(#site) #settings .begin(); });
    let block = async_block(sig, body, span, &quote! { #moves #when #begin });
    let future = if settings.is_empty() {
        quote_spanned! { span => #library::private::future(|| #site, #block) }
    } else {
        quote_spanned! { span => #library::private::future_with_settings(#block) }
    };
    let mut sig = sig.clone();
    sig.asyncness = None;
    sig.inputs.clone_from(inputs);
    if let ReturnType::Type(_, output) = &mut sig.output {
        // The compiler underlines the signature up to its last token only if that token is the user's.
        let end = output.to_token_stream().into_iter().last().map_or(span, |token| token.span());
        let end = quote_spanned! { end => > };
        **output = syn::Type::Verbatim(quote_spanned! { span => impl ::core::future::Future<Output = #output #end });
    }
    let body = braced(future, body.span());
    quote! { #(#attrs)* #vis #sig #body }
}
