//! From an annotated function to the same function with its body handed to the library.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::fold::{Fold, fold_type};
use syn::spanned::Spanned;
use syn::{LitStr, Result, ReturnType, Signature, Type};

use crate::args::Args;
use crate::func::{Function, return_span};

/// The attribute as a function of token streams: never panics, and on an error gives the error
/// together with the untouched item, so that callers of the function still resolve.
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
    let args: Args = syn::parse2(args)?;
    let function: Function = syn::parse2(item)?;
    function.validate()?;

    let library = library(&args);
    let site = site(&args, &function, &library);
    let Function { attrs, vis, sig, body } = &function;
    // An unmet bound is reported at the call, so its name wears the span of the return type.
    let name = |name: &str| Ident::new(name, return_span(sig).resolved_at(Span::mixed_site()));
    let settings = settings(&args);
    let body = if sig.asyncness.is_some() {
        let run = name("run_async");
        let block = async_block(sig, body);
        quote! { #library::private::Call::new(#site) #settings .#run(#block).await }
    } else {
        let output = erase_impl_trait(&sig.output);
        if settings.is_empty() {
            let traced = name("traced");
            quote! { #library::private::#traced(#site, move || #output #body) }
        } else {
            let run = name("run");
            quote! { #library::private::Call::new(#site) #settings .#run(move || #output #body) }
        }
    };
    Ok(quote! { #(#attrs)* #vis #sig { #body } })
}

// Output: .layer(self.index).seq(position).when(self.debug).input("x", &x)
fn settings(args: &Args) -> TokenStream {
    let layer = args.layer.as_ref().map(|layer| quote! { .layer(#layer) });
    let seq = args.seq.as_ref().map(|seq| quote! { .seq(#seq) });
    let when = args.when.as_ref().map(|when| quote! { .when(#when) });
    let inputs = args.inputs.iter().map(|input| {
        let name = LitStr::new(input.to_string().trim_start_matches("r#"), Span::mixed_site());
        // An argument without a tensor is underlined itself.
        let value = quote_spanned! { input.span() => &#input };
        quote! { .input(#name, #value) }
    });
    quote! { #layer #seq #when #(#inputs)* }
}

// Output:
//     async move {
//         if false {
//             let __ret: Result<Tensor> = loop {};
//             return __ret;
//         }
//         { ... }
//     }
//
// An async block has no place for its type. The return that is never reached tells it, so that `?`,
// coercions and errors are as in the function; the body has a scope of its own, so that its `use`
// cannot change what the type means.
fn async_block(sig: &Signature, body: &Group) -> TokenStream {
    let told = match &erase_impl_trait(&sig.output) {
        ReturnType::Default => quote! {},
        ReturnType::Type(_, ty) => quote! {
            #[allow(
                unknown_lints,
                unreachable_code,
                clippy::diverging_sub_expression,
                clippy::empty_loop,
                clippy::let_unit_value,
                clippy::let_with_type_underscore,
                clippy::needless_return,
                clippy::unreachable
            )]
            if false {
                let __ret: #ty = loop {};
                return __ret;
            }
        },
    };
    // Braces of ours: with the user's the compiler would call them unused.
    let mut scope = Group::new(Delimiter::Brace, body.stream());
    scope.set_span(body.span().resolved_at(Span::mixed_site()));
    quote! { async move { #told #scope } }
}

fn library(args: &Args) -> TokenStream {
    args.library.as_ref().map_or_else(|| quote! { ::bitnet_trace }, ToTokens::to_token_stream)
}

// Output: ::bitnet_trace::private::site!("q_proj", "q_proj", ::core::line!())
//
// which makes a static in a block of its own, out of the user's scope.
fn site(args: &Args, function: &Function, library: &TokenStream) -> TokenStream {
    let ident = &function.sig.ident;
    let name = ident.to_string();
    let name = LitStr::new(name.trim_start_matches("r#"), Span::mixed_site());
    let stage = args.stage.clone().unwrap_or_else(|| name.clone());
    // `line!()` gives the line of the outermost expansion, which is the attribute's; written with
    // the span of `fn` it is not part of an expansion and gives the line of the function.
    let line = quote_spanned! { function.sig.fn_token.span() => ::core::line!() };
    let outputs = (!args.outputs.is_empty()).then(|| {
        let names = &args.outputs;
        quote! { , outputs: [#(#names),*] }
    });
    quote! { #library::private::site!(#stage, #name, #line #outputs) }
}

// Input:  -> Result<impl Module>
// Output: -> Result<_>
//
// `impl Trait` may stand neither in a closure's signature nor in a `let` (E0562).
fn erase_impl_trait(output: &ReturnType) -> ReturnType {
    struct Erase;
    impl Fold for Erase {
        fn fold_type(&mut self, ty: Type) -> Type {
            match ty {
                Type::ImplTrait(found) => syn::parse_quote_spanned! { found.span() => _ },
                other => fold_type(self, other),
            }
        }
    }
    Erase.fold_return_type(output.clone())
}
