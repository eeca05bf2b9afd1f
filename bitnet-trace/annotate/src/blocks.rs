//! The `for` loop over the blocks of a model, and the position that a step begins at.

use std::collections::{BTreeSet, HashMap};

use syn::ext::IdentExt;
use syn::visit::{self, Visit};
use syn::{
    Block, Expr, ExprForLoop, Fields, FnArg, GenericArgument, Ident, Item, Member, Pat, PathArguments, Signature, Type,
};

use crate::scope::Scope;

/// The arguments that models give the position of the first token, the likeliest first.
const POSITIONS: [&str; 20] = [
    "index_pos",
    "seqlen_offset",
    "start_pos",
    "position",
    "position_id",
    "pos",
    "input_pos",
    "start_position",
    "position_offset",
    "pos_offset",
    "seq_offset",
    "cache_position",
    "past_kv_len",
    "past_key_values_length",
    "past_length",
    "past_len",
    "kv_len",
    "n_past",
    "cur_pos",
    "offset",
];

/// What the last word of a type's name says of operations that are not blocks.
const OPERATIONS: [&str; 20] = [
    "Linear",
    "Norm",
    "Norm1d",
    "Norm2d",
    "Embedding",
    "Embeddings",
    "Tensor",
    "MatMul",
    "Conv",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "Transpose1d",
    "Transpose2d",
    "LSTM",
    "Lstm",
    "Dropout",
    "Activation",
    "Func",
    "FuncT",
];

/// What the body of a function says of the passes over its blocks.
pub(crate) struct Passes {
    /// The argument that is the position, where the function passes over blocks.
    pub(crate) seq: Option<String>,
    /// The variable that is the block.
    pub(crate) block: Option<String>,
    /// Why there is none although there are such loops.
    pub(crate) note: Option<String>,
}

impl Passes {
    pub(crate) fn of(sig: &Signature, body: &Block, scope: &Scope, structs: &Structs<'_>) -> Self {
        let mut loops =
            Loops { arguments: arguments(sig), scope, structs, blocks: BTreeSet::new(), others: BTreeSet::new() };
        loops.visit_block(body);
        let Loops { blocks, others, .. } = loops;
        let seq = if blocks.is_empty() { None } else { position(sig) };
        let mut names = blocks.iter();
        let (block, note) = match (names.next(), names.next()) {
            (Some(block), None) if others.contains(block) => {
                let note = format!("no `layers(..)`: another loop of the body also binds `{block}`");
                (None, Some(note))
            }
            (Some(block), None) => (Some(block.clone()), None),
            (Some(_), Some(_)) => {
                let names: Vec<_> = blocks.iter().map(|name| format!("`{name}`")).collect();
                let note =
                    format!("no `layers(..)`: the loops over blocks bind different variables, {}", names.join(", "));
                (None, Some(note))
            }
            (None, _) => (None, None),
        };
        Self { seq, block, note }
    }
}

/// The arguments by name, with their types.
fn arguments(sig: &Signature) -> HashMap<String, &Type> {
    let typed = sig.inputs.iter().filter_map(|argument| match argument {
        FnArg::Typed(argument) => Some(argument),
        FnArg::Receiver(_) => None,
    });
    typed
        .filter_map(|argument| match &*argument.pat {
            Pat::Ident(name) => Some((name.ident.to_string(), &*argument.ty)),
            _ => None,
        })
        .collect()
}

fn position(sig: &Signature) -> Option<String> {
    let arguments = arguments(sig);
    let numbers = arguments.iter().filter(|(_, ty)| matches!(ty, Type::Path(path) if path.path.is_ident("usize")));
    let ranked = numbers.filter_map(|(name, _)| {
        let rank = POSITIONS.iter().position(|position| *position == name.trim_start_matches('_'))?;
        Some((rank, name))
    });
    ranked.min().map(|(_, name)| name.clone())
}

/// The `for` loops of a body, those of nested items left out.
struct Loops<'a> {
    arguments: HashMap<String, &'a Type>,
    scope: &'a Scope,
    structs: &'a Structs<'a>,
    /// The variables that are blocks.
    blocks: BTreeSet<String>,
    /// The variables of all other loops.
    others: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Loops<'_> {
    fn visit_expr_for_loop(&mut self, pass: &'ast ExprForLoop) {
        let block = self.block(&pass.pat, &pass.expr).map(ToString::to_string);
        let mut bound = Bound(BTreeSet::new());
        bound.visit_pat(&pass.pat);
        self.others.extend(bound.0.into_iter().filter(|name| block.as_ref() != Some(name)));
        self.blocks.extend(block);
        visit::visit_expr_for_loop(self, pass);
    }

    fn visit_item(&mut self, _: &'ast Item) {}
}

struct Bound(BTreeSet<String>);

impl<'ast> Visit<'ast> for Bound {
    fn visit_pat_ident(&mut self, pat: &'ast syn::PatIdent) {
        self.0.insert(pat.ident.to_string());
        visit::visit_pat_ident(self, pat);
    }
}

impl Loops<'_> {
    /// The variable of the pattern that is a block, if the expression goes over a field of blocks.
    fn block<'p>(&self, pat: &'p Pat, over: &Expr) -> Option<&'p Ident> {
        match over {
            Expr::Paren(inner) => self.block(pat, &inner.expr),
            Expr::Group(inner) => self.block(pat, &inner.expr),
            Expr::Reference(inner) => self.block(pat, &inner.expr),
            Expr::MethodCall(call) => match (call.method.to_string().as_str(), pat) {
                // Methods that change which pass is the first, such as `skip` and `rev`, would give wrong numbers.
                ("iter" | "iter_mut" | "into_iter" | "as_slice" | "as_ref" | "as_mut" | "take", _) => {
                    self.block(pat, &call.receiver)
                }
                ("enumerate", Pat::Tuple(pats)) => self.block(pats.elems.get(1)?, &call.receiver),
                ("zip", Pat::Tuple(pats)) => self
                    .block(pats.elems.first()?, &call.receiver)
                    .or_else(|| self.block(pats.elems.get(1)?, call.args.first()?)),
                _ => None,
            },
            Expr::Field(_) if self.is_blocks(over) => variable(pat),
            _ => None,
        }
    }

    /// Whether an expression such as `self.encoder.layers` is a field of blocks.
    fn is_blocks(&self, expr: &Expr) -> bool {
        let Expr::Field(field) = expr else { return false };
        let Member::Named(name) = &field.member else { return false };
        let Some(owner) = self.owner(&field.base) else { return false };
        let name = name.unraw().to_string();
        let named =
            ["h", "layer", "block"].contains(&name.as_str()) || name.ends_with("layers") || name.ends_with("blocks");
        // Where the file does not say what the elements are, the name decides.
        let element = owner.and_then(|owner| self.structs.field(&owner, &name)).and_then(element);
        named && element.is_none_or(|element| !OPERATIONS.iter().any(|operation| element.ends_with(operation)))
    }

    /// The name of the type of `self`, of an argument or of a field of these, as far as the file says it. The outer
    /// `None` stands for everything else.
    #[allow(clippy::option_option)]
    fn owner(&self, expr: &Expr) -> Option<Option<String>> {
        match expr {
            Expr::Paren(inner) => self.owner(&inner.expr),
            Expr::Path(path) if path.path.is_ident("self") => Some(self.scope.owner.clone()),
            Expr::Path(path) => {
                let ty = self.arguments.get(&path.path.get_ident()?.to_string())?;
                Some(name_of(ty))
            }
            Expr::Field(field) => {
                let Member::Named(name) = &field.member else { return None };
                let owner = self.owner(&field.base)?;
                Some(owner.and_then(|owner| name_of(self.structs.field(&owner, &name.unraw().to_string())?)))
            }
            _ => None,
        }
    }
}

fn variable(pat: &Pat) -> Option<&Ident> {
    match pat {
        Pat::Ident(pat) if pat.subpat.is_none() => Some(&pat.ident),
        Pat::Reference(pat) => variable(&pat.pat),
        Pat::Paren(pat) => variable(&pat.pat),
        _ => None,
    }
}

/// The structs of a file by name, wherever they stand.
#[derive(Default)]
pub(crate) struct Structs<'a>(HashMap<String, Vec<(String, &'a Type)>>);

impl<'a> Structs<'a> {
    pub(crate) fn of(items: &'a [Item]) -> Self {
        let mut structs = Self::default();
        structs.read(items);
        structs
    }

    fn read(&mut self, items: &'a [Item]) {
        for item in items {
            match item {
                Item::Struct(item) => {
                    let Fields::Named(fields) = &item.fields else { continue };
                    let fields = fields.named.iter().filter_map(|field| {
                        let name = field.ident.as_ref()?;
                        Some((name.unraw().to_string(), &field.ty))
                    });
                    self.0.insert(item.ident.unraw().to_string(), fields.collect());
                }
                Item::Mod(item) => {
                    if let Some((_, items)) = &item.content {
                        self.read(items);
                    }
                }
                _ => {}
            }
        }
    }

    fn field(&self, owner: &str, name: &str) -> Option<&'a Type> {
        self.0.get(owner)?.iter().find(|(field, _)| field == name).map(|(_, ty)| *ty)
    }
}

/// The name of a type behind references and pointers that own one value.
fn name_of(ty: &Type) -> Option<String> {
    match ty {
        Type::Reference(inner) => name_of(&inner.elem),
        Type::Paren(inner) => name_of(&inner.elem),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            match (last.ident.to_string().as_str(), argument(&last.arguments)) {
                ("Box" | "Rc" | "Arc", Some(inner)) => name_of(inner),
                (name, _) => Some(name.to_owned()),
            }
        }
        _ => None,
    }
}

/// The name of the elements of a list.
fn element(ty: &Type) -> Option<String> {
    match ty {
        Type::Reference(inner) => element(&inner.elem),
        Type::Slice(inner) => name_of(&inner.elem),
        Type::Array(inner) => name_of(&inner.elem),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let inner = argument(&last.arguments)?;
            if last.ident == "Vec" { name_of(inner) } else { element(inner) }
        }
        _ => None,
    }
}

fn argument(arguments: &PathArguments) -> Option<&Type> {
    let PathArguments::AngleBracketed(arguments) = arguments else { return None };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    })
}
