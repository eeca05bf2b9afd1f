//! From an annotated function to the same function with its body handed to the library.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::fold::{Fold, fold_type};
use syn::spanned::Spanned;
use syn::{LitStr, Result, ReturnType, Type};

use crate::args::Args;
use crate::func::Function;

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
//         ::bitnet_trace::private::traced_in(
//             { static SITE: Site = Site::new("block_out", "forward", module, file, line); &SITE },
//             ::bitnet_trace::private::Scope::new().layer(self.index),
//             move || -> Result<Tensor> { ... },
//         )
//     }
pub(crate) fn expand(args: TokenStream, item: TokenStream) -> Result<TokenStream> {
    let args: Args = syn::parse2(args)?;
    let function: Function = syn::parse2(item)?;
    function.validate()?;

    let library = library(&args);
    let site = site(&args, &function, &library);
    let Function { attrs, vis, sig, body } = &function;
    let output = closure_output(&sig.output);
    // An unmet `Traced` bound is reported at this path, so it wears the span of the return type.
    let call = |name: &str| {
        let name = proc_macro2::Ident::new(name, crate::func::return_span(sig).resolved_at(Span::mixed_site()));
        quote! { #library::private::#name }
    };
    let body = match scope(&args, &library) {
        None => {
            let traced = call("traced");
            quote! { #traced(#site, move || #output #body) }
        }
        Some(scope) => {
            let traced_in = call("traced_in");
            quote! { #traced_in(#site, #scope, move || #output #body) }
        }
    };
    Ok(quote! { #(#attrs)* #vis #sig { #body } })
}

fn library(args: &Args) -> TokenStream {
    args.library.as_ref().map_or_else(|| quote! { ::bitnet_trace }, ToTokens::to_token_stream)
}

// Output: { static SITE: Site = Site::new("q_proj", "q_proj", module_path!(), file!(), line!()); &SITE }
//
// The block keeps `SITE` out of the user's scope.
fn site(args: &Args, function: &Function, library: &TokenStream) -> TokenStream {
    let ident = &function.sig.ident;
    let name = ident.to_string();
    let name = LitStr::new(name.trim_start_matches("r#"), Span::mixed_site());
    let stage = args.stage.clone().unwrap_or_else(|| name.clone());
    // `line!()` gives the line of the outermost expansion, which is the attribute's; written with
    // the span of `fn` it is not part of an expansion and gives the line of the function.
    let line = quote_spanned! { function.sig.fn_token.span() => ::core::line!() };
    quote! {
        {
            static SITE: #library::private::Site = #library::private::Site::new(
                #stage, #name, ::core::module_path!(), ::core::file!(), #line,
            );
            &SITE
        }
    }
}

// Output: Scope::new().layer(self.index).seq(position), or nothing
fn scope(args: &Args, library: &TokenStream) -> Option<TokenStream> {
    if args.layer.is_none() && args.seq.is_none() {
        return None;
    }
    let layer = args.layer.as_ref().map(|layer| quote! { .layer(#layer) });
    let seq = args.seq.as_ref().map(|seq| quote! { .seq(#seq) });
    Some(quote! { #library::private::Scope::new() #layer #seq })
}

// Input:  -> Result<impl Module>
// Output: -> Result<_>
//
// `impl Trait` means something else (nothing, E0562) in a closure's signature.
fn closure_output(output: &ReturnType) -> ReturnType {
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
