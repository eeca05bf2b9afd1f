//! Bodies as blocks: what plain and asynchronous functions share.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::fold::{Fold, fold_type};
use syn::spanned::Spanned;
use syn::{Lifetime, ReturnType, Signature, Type};

pub(crate) fn braced(tokens: TokenStream, span: Span) -> Group {
    let mut group = Group::new(Delimiter::Brace, tokens);
    group.set_span(span);
    group
}

// Output:
//     async move {
//         if false {
//             let __ret: Result<Tensor> = loop {};
//             return __ret;
//         }
//         <first>
//         { ... }
//     }
//
// An async block cannot declare the type of its output. The `return` that is never reached fixes it, so
// that `?`, coercions and errors work as in the function. The body has its own scope, so that a `use`
// in it cannot change the meaning of the type.
pub(crate) fn async_block(sig: &Signature, body: &Group, span: Span, first: &TokenStream) -> TokenStream {
    let told = match &in_closure(sig) {
        ReturnType::Default => quote! {},
        ReturnType::Type(_, ty) => quote_spanned! { span =>
            #[allow(
                unknown_lints,
                unreachable_code,
                clippy::diverging_sub_expression,
                clippy::empty_loop,
                clippy::let_unit_value,
                clippy::let_with_type_underscore,
                clippy::needless_return,
                clippy::type_complexity,
                clippy::unreachable
            )]
            if false {
                let __ret: #ty = loop {};
                return __ret;
            }
        },
    };
    // These braces get the macro's span: with the user's, the compiler would warn that they are unused.
    let scope = braced(body.stream(), body.span().resolved_at(Span::mixed_site()));
    let block = braced(quote! { #told #first #scope }, body.span());
    quote_spanned! { body.span() => async move #block }
}

// Input:  -> Result<(&'a Tensor, impl Module)>
// Output: -> Result<(&'_ Tensor, _)>
//
// `impl Trait` is allowed neither in a closure's signature nor in a `let` (E0562). A repeated lifetime of
// the function would be used once more than the user wrote, and lints count the uses.
pub(crate) fn in_closure(sig: &Signature) -> ReturnType {
    struct Closure {
        lifetimes: Vec<Ident>,
    }
    impl Fold for Closure {
        fn fold_type(&mut self, ty: Type) -> Type {
            match ty {
                Type::ImplTrait(found) => syn::parse_quote_spanned! { found.span() => _ },
                other => fold_type(self, other),
            }
        }

        fn fold_lifetime(&mut self, lifetime: Lifetime) -> Lifetime {
            if self.lifetimes.contains(&lifetime.ident) { Lifetime::new("'_", lifetime.span()) } else { lifetime }
        }
    }
    let lifetimes = sig.generics.lifetimes().map(|parameter| parameter.lifetime.ident.clone()).collect();
    Closure { lifetimes }.fold_return_type(sig.output.clone())
}
