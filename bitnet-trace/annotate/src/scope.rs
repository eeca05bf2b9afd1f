//! Where a function stands: in which modules, and in the implementation of which type or trait.

use quote::ToTokens;
use syn::ext::IdentExt;
use syn::{Attribute, GenericParam, Ident, ItemImpl, ItemTrait, Meta, Path, Type};

/// The place of a function in its file.
#[derive(Clone, Default)]
pub(crate) struct Scope {
    pub(crate) modules: Vec<String>,
    /// The type that it is implemented for, or the trait that it is a default method of.
    pub(crate) owner: Option<String>,
    /// The header of the implementation: two functions of one name and one header are alternatives.
    header: String,
}

impl Scope {
    pub(crate) fn module(&self, name: &Ident) -> Self {
        let mut modules = self.modules.clone();
        modules.push(name.unraw().to_string());
        Self { modules, ..Self::default() }
    }

    pub(crate) fn implementation(&self, item: &ItemImpl) -> Self {
        let parameters: Vec<&Ident> = item
            .generics
            .params
            .iter()
            .filter_map(|parameter| match parameter {
                GenericParam::Type(parameter) => Some(&parameter.ident),
                _ => None,
            })
            .collect();
        let implemented = item.trait_.as_ref().map(|(path, _)| path);
        let owner = type_name(&item.self_ty)
            .filter(|name| !parameters.contains(name))
            .or_else(|| implemented.and_then(last_name))
            .map(|name| name.unraw().to_string());
        let header = format!("{} {}", item.self_ty.to_token_stream(), implemented.to_token_stream());
        Self { modules: self.modules.clone(), owner, header }
    }

    pub(crate) fn of_trait(&self, item: &ItemTrait) -> Self {
        let name = item.ident.unraw().to_string();
        Self { modules: self.modules.clone(), header: format!("trait {name}"), owner: Some(name) }
    }

    /// The function's path in the file.
    pub(crate) fn path(&self, function: &Ident) -> String {
        let mut path = String::new();
        for part in self.modules.iter().chain(&self.owner) {
            path.push_str(part);
            path.push_str("::");
        }
        path + &function.unraw().to_string()
    }

    /// What only those functions share of which `cfg` chooses one.
    pub(crate) fn identity(&self, function: &Ident) -> (Vec<String>, String, String) {
        (self.modules.clone(), self.header.clone(), function.unraw().to_string())
    }
}

/// The name of a type as a person calls it: `Block` for `&mut block::Block<T>`.
fn type_name(ty: &Type) -> Option<&Ident> {
    match ty {
        Type::Path(path) => last_name(&path.path),
        Type::Reference(inner) => type_name(&inner.elem),
        Type::Paren(inner) => type_name(&inner.elem),
        Type::Group(inner) => type_name(&inner.elem),
        _ => None,
    }
}

fn last_name(path: &Path) -> Option<&Ident> {
    path.segments.last().map(|last| &last.ident)
}

/// Whether an attribute of this name is there, also inside of a `cfg_attr`.
pub(crate) fn has_attribute(attrs: &[Attribute], name: &str) -> bool {
    attrs.iter().any(|attr| {
        last_name(attr.path()).is_some_and(|last| last == name)
            || attr.path().is_ident("cfg_attr") && mentions(&attr.meta, name)
    })
}

/// Whether the item exists in tests alone, or is one.
pub(crate) fn is_test(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let named = last_name(attr.path());
        named.is_some_and(|last| ["test", "bench", "rstest", "test_case"].iter().any(|name| last == name))
            || attr.path().is_ident("cfg") && mentions(&attr.meta, "test") && !mentions(&attr.meta, "not")
    })
}

/// Whether the arguments of an attribute hold this word, at any depth.
fn mentions(meta: &Meta, word: &str) -> bool {
    fn search(tokens: proc_macro2::TokenStream, word: &str) -> bool {
        tokens.into_iter().any(|token| match token {
            proc_macro2::TokenTree::Group(group) => search(group.stream(), word),
            proc_macro2::TokenTree::Ident(ident) => ident == word,
            _ => false,
        })
    }
    matches!(meta, Meta::List(list) if search(list.tokens.clone(), word))
}
