//! The bounds of a derived implementation: each field that it shows must be a `Part`.

use quote::ToTokens;
use syn::fold::{Fold, fold_type};
use syn::{DeriveInput, Ident, Type, TypePath};

/// `ty: name`, a predicate of the where-clause.
pub(crate) struct Bound {
    pub(crate) ty: Type,
    pub(crate) name: &'static str,
}

/// Collects the bounds, field by field. Fields without a type parameter need no bound, and skipped
/// fields are never noted.
pub(crate) struct Types {
    /// The name of the type that derives `Traced`.
    name: Ident,
    parameters: Vec<Ident>,
    pub(crate) bounds: Vec<Bound>,
}

// Input:  struct Out<K: Ord, M: Model> { all: BTreeMap<K, Tensor>, cache: <M as Model>::Cache, next: Option<Box<Self>> }
// Output: BTreeMap<K, Tensor>: Part, <M as Model>::Cache: Part
//
// A field that holds the type itself cannot have that bound, which would depend on itself. Instead, the
// field's type parameters outside of it must be `Traced`.
impl Types {
    pub(crate) fn new(input: &DeriveInput) -> Self {
        let parameters = input.generics.type_params().map(|parameter| parameter.ident.clone()).collect();
        Self { name: input.ident.clone(), parameters, bounds: Vec::new() }
    }

    pub(crate) fn note(&mut self, field: &Type) {
        let mut found = Found { types: self, itself: false, parameters: Vec::new() };
        found.fold_type(field.clone());
        let Found { itself, parameters, .. } = found;
        if itself {
            for parameter in parameters {
                self.bound(Type::Path(parameter), "Traced");
            }
        } else if !parameters.is_empty() {
            self.bound(field.clone(), "Part");
        }
    }

    fn bound(&mut self, ty: Type, name: &'static str) {
        // As text: syn compares types only with a feature that would build it again for everybody.
        let text = |ty: &Type| ty.to_token_stream().to_string();
        if !self.bounds.iter().any(|bound| bound.name == name && text(&bound.ty) == text(&ty)) {
            self.bounds.push(Bound { ty, name });
        }
    }

    /// Whether the path names the type that derives: `Tree<T>`, `crate::tree::Tree<T>`, `Self`.
    fn is_itself(&self, path: &syn::Path) -> bool {
        let here = |ident: &Ident| ident == "crate" || ident == "self" || ident == "super";
        match (path.segments.first(), path.segments.last()) {
            (Some(first), Some(last)) => {
                first.ident == "Self" || last.ident == self.name && (path.segments.len() == 1 || here(&first.ident))
            }
            _ => false,
        }
    }
}

/// What the type of one field mentions.
struct Found<'a> {
    types: &'a Types,
    /// Whether it mentions the type that derives.
    itself: bool,
    /// Type parameters, and paths that begin with one.
    parameters: Vec<TypePath>,
}

impl Fold for Found<'_> {
    fn fold_type(&mut self, ty: Type) -> Type {
        if let Type::Path(path) = &ty {
            if path.qself.is_none() && self.types.is_itself(&path.path) {
                self.itself = true;
                return ty;
            }
            let first = path.path.segments.first();
            if path.qself.is_none() && first.is_some_and(|first| self.types.parameters.contains(&first.ident)) {
                self.parameters.push(path.clone());
            }
        }
        fold_type(self, ty)
    }
}
