//! `#[derive(Traced)]`: every field is a part of the value, labelled with the field's name.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::ParseStream;
use syn::spanned::Spanned;
use syn::{Attribute, Data, DeriveInput, Error, Fields, Index, LitStr, Member, Path, Result, Token};

use crate::bounds::{Bound, Types};
use crate::nearest;

/// The derive as a function of token streams. It never panics. On an error it returns the error together
/// with an implementation that shows nothing, so that bounds on the type still hold.
pub(crate) fn derive(item: TokenStream) -> TokenStream {
    let input: DeriveInput = match syn::parse2(item) {
        Ok(input) => input,
        Err(error) => return error.into_compile_error(),
    };
    let library = library(&input.attrs);
    let path = library.as_ref().map_or_else(|_| quote! { ::bitnet_trace }, Clone::clone);
    let expanded = library.and_then(|_| expand(&input));
    let (shown, bounds, error) = match expanded {
        Ok(Shows { shown, bounds }) => (shown, bounds, None),
        Err(error) => (quote! { let _ = visitor; }, Vec::new(), Some(error.into_compile_error())),
    };
    let DeriveInput { ident, mut generics, .. } = input;
    if !bounds.is_empty() {
        let bounds = bounds.iter().map(|Bound { ty, name }| {
            let name = Ident::new(name, Span::mixed_site());
            syn::parse_quote! { #ty: #path::#name }
        });
        generics.make_where_clause().predicates.extend::<Vec<syn::WherePredicate>>(bounds.collect());
    }
    let (impl_generics, ty_generics, where_clause) = generics.split_for_impl();
    quote! {
        #error
        #[automatically_derived]
        impl #impl_generics #path::Traced for #ident #ty_generics #where_clause {
            fn visit_tensors(&self, visitor: &mut #path::TensorVisitor<'_>) {
                #shown
            }
        }
    }
}

/// The contents of the implementation.
struct Shows {
    /// The body of `visit_tensors`.
    shown: TokenStream,
    bounds: Vec<Bound>,
}

fn expand(input: &DeriveInput) -> Result<Shows> {
    let mut types = Types::new(input);
    let shown = match &input.data {
        Data::Struct(data) => {
            let shown = struct_fields(&data.fields, &mut types)?;
            if shown.is_empty() {
                quote! { let _ = visitor; }
            } else {
                shown
            }
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let options = Options::of(&variant.attrs)?;
                let name = &variant.ident;
                if options.skip || variant.fields.is_empty() {
                    return Ok(quote! { Self::#name { .. } => {} });
                }
                variant_fields(name, &variant.fields, options.label.as_ref(), &mut types)
            });
            let arms = arms.collect::<Result<Vec<_>>>()?;
            quote! {
                let _ = &visitor;
                match *self {
                    #(#arms)*
                }
            }
        }
        Data::Union(data) => {
            return Err(Error::new(
                data.union_token.span(),
                "a union does not tell which of its fields holds the tensor; implement `Traced` by hand",
            ));
        }
    };
    Ok(Shows { shown, bounds: types.bounds })
}

// Input:  struct Heads { q: Tensor, #[traced(label = "keys")] k: Tensor, #[traced(skip)] heads: Heads }
// Output: visitor.part("q", &self.q);
//         visitor.part("keys", &self.k);
fn struct_fields(fields: &Fields, types: &mut Types) -> Result<TokenStream> {
    let shown = shown_fields(fields, types)?;
    let parts = shown.iter().map(|Shown { member, label, span }| {
        // `self` is hygienic: it needs the same span context as the method's own `self`.
        let value = quote_spanned! { span.resolved_at(Span::call_site()) => &self.#member };
        quote! { visitor.part(#label, #value); }
    });
    Ok(quote! { #(#parts)* })
}

// Input:  Mask::Causal { tensor: Tensor, width: usize }
// Output: Self::Causal { tensor: ref field_0, width: ref field_1, .. } => {
//             visitor.part("tensor", field_0);
//             visitor.part("width", field_1);
//         }
fn variant_fields(name: &Ident, fields: &Fields, label: Option<&LitStr>, types: &mut Types) -> Result<TokenStream> {
    let shown = shown_fields(fields, types)?;
    let bindings: Vec<Ident> =
        shown.iter().enumerate().map(|(index, field)| format_ident!("field_{index}", span = field.span)).collect();
    let members = shown.iter().map(|field| &field.member);
    let labels = shown.iter().map(|field| match label {
        Some(outer) => LitStr::new(&format!("{}.{}", outer.value(), field.label.value()), field.label.span()),
        None => field.label.clone(),
    });
    Ok(quote! {
        Self::#name { #(#members: ref #bindings,)* .. } => {
            #(visitor.part(#labels, #bindings);)*
        }
    })
}

/// A field whose tensors are shown.
struct Shown {
    member: Member,
    label: LitStr,
    /// The span of the field's type, which an error underlines.
    span: Span,
}

fn shown_fields(fields: &Fields, types: &mut Types) -> Result<Vec<Shown>> {
    let mut shown: Vec<Shown> = Vec::new();
    for (position, field) in fields.iter().enumerate() {
        let options = Options::of(&field.attrs)?;
        if options.skip {
            continue;
        }
        types.note(&field.ty);
        let span = field.ty.span().resolved_at(Span::mixed_site());
        let (member, name) = if let Some(ident) = &field.ident {
            (Member::Named(ident.clone()), ident.unraw().to_string())
        } else {
            let index = u32::try_from(position).map_err(|_| Error::new(span, "too many fields"))?;
            (Member::Unnamed(Index { index, span }), position.to_string())
        };
        let label = options.label.unwrap_or_else(|| LitStr::new(&name, Span::mixed_site()));
        if shown.iter().any(|other| other.label.value() == label.value()) {
            let place = if label.span().source_text().is_some() { label.span() } else { field.span() };
            return Err(Error::new(place, format!("the label `{}` is used twice", label.value())));
        }
        shown.push(Shown { member, label, span });
    }
    Ok(shown)
}

/// The options in `#[traced(...)]` on a field or a variant.
#[derive(Default)]
struct Options {
    skip: bool,
    label: Option<LitStr>,
}

impl Options {
    fn of(attrs: &[Attribute]) -> Result<Self> {
        let mut options = Self::default();
        for attr in attrs.iter().filter(|attr| attr.path().is_ident("traced")) {
            attr.parse_args_with(|input: ParseStream<'_>| options.parse(input))?;
        }
        Ok(options)
    }

    fn parse(&mut self, input: ParseStream<'_>) -> Result<()> {
        while !input.is_empty() {
            let key = Ident::parse_any(input)?;
            match key.to_string().as_str() {
                name @ ("skip" | "label") if self.skip || self.label.is_some() => {
                    let given = if self.skip { "skip" } else { "label" };
                    let message = if name == given {
                        format!("`{name}` is given twice")
                    } else {
                        "`skip` and `label` cannot be combined".to_owned()
                    };
                    return Err(Error::new(key.span(), message));
                }
                "skip" => self.skip = true,
                "label" => {
                    input.parse::<Token![=]>()?;
                    let label: LitStr = input
                        .parse()
                        .map_err(|error| Error::new(error.span(), "expected a string, as in `label = \"k\"`"))?;
                    if label.value().is_empty() {
                        return Err(Error::new(
                            label.span(),
                            "the label is empty; leave it out to use the field's name",
                        ));
                    }
                    self.label = Some(label);
                }
                other => return Err(nearest::unknown(other, key.span(), &["skip", "label"])),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }
}

/// Returns the path in `#[traced(crate = path)]` on the type itself, or the default path.
fn library(attrs: &[Attribute]) -> Result<TokenStream> {
    let mut library = quote! { ::bitnet_trace };
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("traced")) {
        attr.parse_args_with(|input: ParseStream<'_>| {
            let key = Ident::parse_any(input)?;
            if key != "crate" {
                return Err(nearest::unknown(&key.to_string(), key.span(), &["crate"]));
            }
            input.parse::<Token![=]>()?;
            library = input.call(Path::parse_mod_style)?.to_token_stream();
            Ok(())
        })?;
    }
    Ok(library)
}
