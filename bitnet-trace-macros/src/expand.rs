//! Rewrites an annotated function: the library gets its body as a closure or a future.

use proc_macro2::{Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{FnArg, LitStr, Result, Signature};

use crate::args::Args;
use crate::asynchronous;
use crate::blocks::{async_block, braced, in_closure};
use crate::func::{Function, return_span};
use crate::locals::{self, Names};

/// The attribute as a function of token streams. It never panics. On an error it returns the error
/// together with the unchanged item, so that callers of the function still resolve.
pub(crate) fn attribute(args: TokenStream, item: &TokenStream) -> TokenStream {
    expand(args, item.clone()).unwrap_or_else(|error| {
        let error = error.into_compile_error();
        quote! { #error #item }
    })
}

// Input:
//     #[traced(stage = "block_out", layer = self.index)]
//     fn forward(&self, x: &Tensor) -> Result<Tensor> { ... }
//
// Output:
//     fn forward(&self, x: &Tensor) -> Result<Tensor> {
//         ::bitnet_trace::private::Call::new(::bitnet_trace::private::site!(...))
//             .layer(self.index)
//             .run(move || -> Result<Tensor> { ... })
//     }
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let mut args: Args = syn::parse2(args)?;
    let mut function: Function = syn::parse2(item)?;
    function.validate()?;

    // The compiler reports an unmet bound on the return type at the call, so the call gets that type's span.
    let span = return_span(&function.sig).resolved_at(Span::mixed_site());
    let library =
        args.library.as_ref().map_or_else(|| quote_spanned! { span => ::bitnet_trace }, ToTokens::to_token_stream);
    let site = site(&args, &function, &library);
    let when = if args.locals.is_some() { evaluate_once(&mut args) } else { None };
    if args.locals.is_some() || args.layers.is_some() {
        function.body = look_into(&args, &function, when.is_some())?;
    }
    let settings = settings(&args);
    let Function { attrs, vis, sig, body } = &function;
    if let Some(moved) = asynchronous::moved(&function, &args) {
        return Ok(asynchronous::expand(&function, &moved, &library, &site, when.as_ref(), &settings, span));
    }
    let body = if sig.asyncness.is_some() {
        let block = async_block(sig, body, span, &quote! {});
        quote_spanned! { span => #when #library::private::Call::new(#site) #settings .run_async(#block).await }
    } else {
        let body = closure(sig, body);
        if settings.is_empty() {
            quote_spanned! { span => #library::private::traced(#site, #body) }
        } else {
            quote_spanned! { span => #when #library::private::Call::new(#site) #settings .run(#body) }
        }
    };
    // The body keeps the user's braces: the compiler treats an item that ends inside an expansion as
    // generated code, which its lints (dead code, missing documentation, most of clippy's) skip.
    let body = braced(body, function.body.span());
    Ok(quote! { #(#attrs)* #vis #sig #body })
}

/// The variable that holds the value of `when`, which decides for the locals too.
fn recording() -> Ident {
    Ident::new("__recording", Span::mixed_site())
}

// Input:  when = self.debug
// Output: let __recording: &'static ::core::primitive::bool = if self.debug { &true } else { &false };
//
// A closure that does not move its captures then captures what lives as long as any thread.
fn evaluate_once(args: &mut Args) -> Option<TokenStream> {
    let recording = recording();
    let variable = syn::parse_quote! { *#recording };
    let when = args.when.replace(variable);
    if when.is_none() {
        args.when = None;
    }
    when.map(|when| {
        quote! { let #recording: &'static ::core::primitive::bool = if #when { &true } else { &false }; }
    })
}

/// The body with what `locals` and `layers` add to it.
fn look_into(args: &Args, function: &Function, has_when: bool) -> Result<Group> {
    let name = function_name(function);
    let recording = recording();
    let names = Names {
        library: args.library.as_ref(),
        stage: args.stage.as_ref().unwrap_or(&name),
        function: &name,
        when: has_when.then_some(&recording),
        is_async: function.sig.asyncness.is_some(),
    };
    locals::look_into(&function.body, &names, args.locals.as_deref(), args.layers.as_ref())
}

/// The function's name as text, without `r#`.
fn function_name(function: &Function) -> LitStr {
    LitStr::new(&function.sig.ident.unraw().to_string(), Span::mixed_site())
}

// Output: .layer(self.index).seq(position).when(self.debug).input("x", &x)
fn settings(args: &Args) -> TokenStream {
    let layer = args.layer.as_ref().map(|layer| quote! { .layer(#layer) });
    let seq = args.seq.as_ref().map(|seq| quote! { .seq(#seq) });
    let when = args.when.as_ref().map(|when| quote! { .when(#when) });
    let inputs = args.inputs.iter().map(|input| {
        let name = LitStr::new(input.to_string().trim_start_matches("r#"), Span::mixed_site());
        // The error for an argument without a tensor underlines the argument.
        let value = quote_spanned! { input.span() => &#input };
        quote! { .input(#name, #value) }
    });
    quote! { #layer #seq #when #(#inputs)* }
}

// Output: || -> Result<Tensor> { ... }
//
// The closure captures what the body uses: an argument that the body only reads is borrowed, and lints
// about such arguments still fire. It is a `move` closure
// * if an argument is `mut`: through a borrow, no lint would find assignments that are never read;
// * if `&mut` is returned: before edition 2021 a closure borrows the variable, not what it points to.
//
// It has the user's span: otherwise the compiler would skip lints in the body as it does in an expansion.
fn closure(sig: &Signature, body: &Group) -> TokenStream {
    let output = in_closure(sig);
    let mutable = sig.inputs.iter().any(|argument| match argument {
        FnArg::Receiver(receiver) => receiver.to_token_stream().into_iter().next().is_some_and(|token| is_mut(&token)),
        FnArg::Typed(argument) => has_mut(argument.pat.to_token_stream()),
    });
    let by_move = (mutable || has_mut(sig.output.to_token_stream())).then(|| quote_spanned! { body.span() => move });
    quote_spanned! { body.span() => #by_move || #output #body }
}

fn has_mut(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_mut(group.stream()),
        token => is_mut(&token),
    })
}

fn is_mut(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == "mut")
}

// Output: ::bitnet_trace::private::site!("q_proj", "q_proj", ::core::line!())
//
// `site!` makes a static in a block of its own, outside of the user's scope.
fn site(args: &Args, function: &Function, library: &TokenStream) -> TokenStream {
    let name = function_name(function);
    let stage = args.stage.clone().unwrap_or_else(|| name.clone());
    // `line!()` gives the line of the outermost expansion, which is the attribute's. With the span of
    // `fn` it is not part of an expansion and gives the line of the function.
    let line = quote_spanned! { function.sig.fn_token.span() => ::core::line!() };
    let outputs = (!args.outputs.is_empty()).then(|| {
        let names = &args.outputs;
        quote! { , outputs: [#(#names),*] }
    });
    quote! { #library::private::site!(#stage, #name, #line #outputs) }
}
