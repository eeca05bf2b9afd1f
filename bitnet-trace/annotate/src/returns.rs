//! Whether `#[traced]` can record what a function returns.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    GenericArgument, ParenthesizedGenericArguments, Path, PathArguments, PathSegment, ReturnType, Type, TypeFnPtr,
    TypeParamBound,
};

use crate::Reason;
use crate::parse::Text;

/// The longest tuple that `#[traced]` records.
const MOST_ELEMENTS: usize = 8;

/// What a type holds.
enum Holds {
    /// Neither tensors nor what may stand beside them.
    Other,
    /// A number, a string or a bool: passed over beside a tensor.
    Plain,
    /// A `Vec` or an `Option` of one: passed over beside a tensor, but in nothing else.
    PlainSeveral,
    Tensors,
    /// Tensors where `#[traced]` does not find them.
    Hidden(Reason),
}

/// `None` if the function returns no tensors, the reason if they cannot be recorded.
pub(crate) fn returns_tensors(output: &ReturnType, text: Text<'_>) -> Option<Result<(), Reason>> {
    let ReturnType::Type(_, ty) = output else { return None };
    match holds(ty, text) {
        Holds::Other | Holds::Plain | Holds::PlainSeveral => None,
        Holds::Tensors => Some(Ok(())),
        Holds::Hidden(reason) => Some(Err(reason)),
    }
}

fn holds(ty: &Type, text: Text<'_>) -> Holds {
    match ty {
        Type::Paren(inner) => holds(&inner.elem, text),
        Type::Group(inner) => holds(&inner.elem, text),
        Type::Reference(inner) => match &*inner.elem {
            Type::Path(path) if path.path.is_ident("str") => Holds::Plain,
            elem => tensors_alone(holds(elem, text)),
        },
        Type::Slice(inner) => tensors_alone(holds(&inner.elem, text)),
        Type::Array(inner) => tensors_alone(holds(&inner.elem, text)),
        Type::Tuple(tuple) => {
            let elems: Vec<_> = tuple.elems.iter().map(|elem| (elem, holds(elem, text))).collect();
            if !elems.iter().any(|(_, holds)| matches!(holds, Holds::Tensors | Holds::Hidden(_))) {
                return Holds::Other;
            }
            if elems.len() > MOST_ELEMENTS {
                return Holds::Hidden(Reason::Holder(written(ty, text)));
            }
            for (elem, holds) in elems {
                match holds {
                    Holds::Hidden(reason) => return Holds::Hidden(reason),
                    Holds::Other => return Holds::Hidden(Reason::Beside(written(elem, text))),
                    Holds::Plain | Holds::PlainSeveral | Holds::Tensors => {}
                }
            }
            Holds::Tensors
        }
        Type::Path(path) => match (&path.qself, path.path.segments.last()) {
            (None, Some(last)) => named(ty, last, text),
            _ => hidden(ty, text),
        },
        Type::ImplTrait(_) if names_tensor(ty) => Holds::Hidden(Reason::ImplTrait),
        _ => hidden(ty, text),
    }
}

/// By the last name of the path, as a person reads it: `Result` may be candle's.
fn named(ty: &Type, last: &PathSegment, text: Text<'_>) -> Holds {
    let arguments: Vec<&Type> = match &last.arguments {
        PathArguments::AngleBracketed(arguments) => arguments
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    match (last.ident.to_string().as_str(), arguments.as_slice()) {
        ("Tensor", []) => Holds::Tensors,
        (
            "bool" | "char" | "String" | "f32" | "f64" | "u8" | "u16" | "u32" | "u64" | "u128" | "usize" | "i8" | "i16"
            | "i32" | "i64" | "i128" | "isize",
            [],
        ) => Holds::Plain,
        ("Cow", [inner]) if is_text(inner) => Holds::Plain,
        ("Option" | "Vec", [inner]) => match holds(inner, text) {
            Holds::Plain => Holds::PlainSeveral,
            other => tensors_alone(other),
        },
        ("Result", [inner, ..]) | ("Box" | "Rc" | "Arc" | "BoxFuture" | "LocalBoxFuture", [inner]) => {
            tensors_alone(holds(inner, text))
        }
        ("HashMap" | "BTreeMap", [key, value, ..]) if is_text(key) => tensors_alone(holds(value, text)),
        ("Pin", [pinned]) => match boxed_future(pinned) {
            Some(output) => tensors_alone(holds(output, text)),
            None => hidden(ty, text),
        },
        _ => hidden(ty, text),
    }
}

/// Plain values are passed over by themselves, in a `Vec` and in an `Option`, and in nothing else.
fn tensors_alone(inner: Holds) -> Holds {
    if matches!(inner, Holds::Plain | Holds::PlainSeveral) { Holds::Other } else { inner }
}

fn hidden(ty: &Type, text: Text<'_>) -> Holds {
    if names_tensor(ty) { Holds::Hidden(Reason::Holder(written(ty, text))) } else { Holds::Other }
}

fn is_text(ty: &Type) -> bool {
    match ty {
        Type::Reference(inner) => is_text(&inner.elem),
        Type::Path(path) => path.path.segments.last().is_some_and(|last| last.ident == "String" || last.ident == "str"),
        _ => false,
    }
}

/// The output of a `Box<dyn Future<Output = T>>`.
fn boxed_future(ty: &Type) -> Option<&Type> {
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Box")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let Some(GenericArgument::Type(Type::TraitObject(object))) = arguments.args.first() else { return None };
    let future = object.bounds.iter().find_map(|bound| match bound {
        TypeParamBound::Trait(bound) => bound.path.segments.last().filter(|last| last.ident == "Future"),
        _ => None,
    })?;
    let PathArguments::AngleBracketed(arguments) = &future.arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::AssocType(output) if output.ident == "Output" => Some(&output.ty),
        _ => None,
    })
}

/// Whether `Tensor` stands anywhere in a type, functions that the value could be called as left out.
fn names_tensor(ty: &Type) -> bool {
    struct Search(bool);
    impl<'ast> Visit<'ast> for Search {
        fn visit_path(&mut self, path: &'ast Path) {
            self.0 |= path.segments.last().is_some_and(|last| last.ident == "Tensor");
            visit::visit_path(self, path);
        }

        fn visit_parenthesized_generic_arguments(&mut self, _: &'ast ParenthesizedGenericArguments) {}

        fn visit_type_fn_ptr(&mut self, _: &'ast TypeFnPtr) {}
    }
    let mut search = Search(false);
    search.visit_type(ty);
    search.0
}

/// The type as it is written, on one line.
fn written(ty: &Type, text: Text<'_>) -> String {
    let written = text.code.get(ty.span().byte_range()).unwrap_or_default();
    written.split_whitespace().collect::<Vec<_>>().join(" ")
}
