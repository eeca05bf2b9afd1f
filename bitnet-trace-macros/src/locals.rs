//! Bodies that are looked into: `locals` records what they bind, `layers` counts the passes of a loop.
//!
//! Only here is a body parsed. Statements are added, and the expression of a loop is wrapped; nothing else
//! changes, and every token of the user's keeps its span.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote_spanned};
use syn::ext::IdentExt;
use syn::fold::{
    Fold, fold_expr, fold_expr_assign, fold_expr_async, fold_expr_closure, fold_expr_for_loop, fold_local,
    fold_pat_ident,
};
use syn::{
    Attribute, Block, Error, Expr, ExprAssign, ExprClosure, ExprForLoop, ExprRepeat, GenericArgument, Item, LitStr,
    Local, Macro, Pat, PatIdent, Path, Result, Stmt, Type, parse_quote_spanned,
};

use crate::picks::{Pick, Picks};
use crate::record::Record;

/// The names that the records of a body carry, and where the library is.
pub(crate) struct Names<'a> {
    /// `::bitnet_trace` if `None`.
    pub(crate) library: Option<&'a Path>,
    /// The stage of the function.
    pub(crate) stage: &'a LitStr,
    pub(crate) function: &'a LitStr,
    /// The variable that says whether this call records, if the attribute has `when`.
    pub(crate) when: Option<&'a Ident>,
    /// Whether the body is that of an `async fn`.
    pub(crate) is_async: bool,
}

// Input:
//     {
//         let q = self.wq.forward(x)?;
//         for layer in &self.layers { ... }
//     }
//
// Output of `locals, layers(layer)`:
//     {
//         let q = self.wq.forward(x)?;
//         ::bitnet_trace::private::local(::bitnet_trace::private::binding!("attn", "forward", ::core::line!(), "q"), &q);
//         for layer in ::bitnet_trace::private::layers(&self.layers) { ... }
//     }
pub(crate) fn look_into(
    body: &Group,
    names: &Names<'_>,
    locals: Option<&[Pick]>,
    layers: Option<&Ident>,
) -> Result<Group> {
    let parsed = parse(body).map_err(|error| {
        let argument = if locals.is_some() { "locals" } else { "layers" };
        Error::new(error.span(), format!("`{argument}` cannot read this body: {error}"))
    })?;
    let mut body = Body { names, picks: locals.map(Picks::new), layers, loops: 0, in_future: names.is_async };
    let parsed = body.fold_block(parsed);
    if let Some(picks) = body.picks {
        picks.finish()?;
    }
    if let (Some(layers), 0) = (layers, body.loops) {
        return Err(Error::new(layers.span(), format!("no `for` loop in this body binds `{layers}`")));
    }
    let mut stream = parsed.into_token_stream().into_iter();
    match (stream.next(), stream.next()) {
        (Some(TokenTree::Group(group)), None) => Ok(group),
        _ => Err(Error::new(Span::call_site(), "expected the function's body in braces")),
    }
}

fn parse(body: &Group) -> Result<Block> {
    let parsed = |body: Group| syn::parse2(TokenStream::from(TokenTree::from(body)));
    parsed(body.clone()).or_else(|error| parsed(group(body, without_groups(body.stream()))).map_err(|_| error))
}

fn group(of: &Group, stream: TokenStream) -> Group {
    let mut group = Group::new(of.delimiter(), stream);
    group.set_span(of.span());
    group
}

// Input:  ⟦{ let q = 1; }⟧ Ok(x), where ⟦ ⟧ is the invisible group of a `$body:block` or a `$step:stmt`
// Output: { let q = 1; } Ok(x)
//
// The compiler reads such a group as a statement that needs no semicolon; syn reads it as an expression.
fn without_groups(tokens: TokenStream) -> TokenStream {
    let is_statement = |first: &TokenTree| match first {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Ident(word) => ["if", "match", "for", "while", "loop", "unsafe"].iter().any(|begin| word == begin),
        _ => false,
    };
    tokens
        .into_iter()
        .flat_map(|token| match token {
            TokenTree::Group(inner) => {
                let stream = without_groups(inner.stream());
                let first = stream.clone().into_iter().next();
                if inner.delimiter() == Delimiter::None && first.is_some_and(|first| is_statement(&first)) {
                    stream
                } else {
                    TokenTree::from(group(&inner, stream)).into()
                }
            }
            token => token.into(),
        })
        .collect()
}

impl Names<'_> {
    /// The path to the library. The compiler underlines a call from its first token on, so the path gets a span there.
    fn library(&self, span: Span) -> TokenStream {
        self.library.map_or_else(|| quote_spanned! { span => ::bitnet_trace }, ToTokens::to_token_stream)
    }
}

struct Body<'a> {
    names: &'a Names<'a>,
    picks: Option<Picks<'a>>,
    layers: Option<&'a Ident>,
    /// The number of loops that bind `layers`.
    loops: usize,
    /// Whether the code belongs to a future: what it borrows may have to move between threads.
    in_future: bool,
}

impl Body<'_> {
    /// Counts a binding. Returns `None` if it is not recorded.
    fn record(&mut self, variable: &Ident) -> Option<Record> {
        let wanted = self.picks.as_mut()?.take(variable)?;
        let Names { stage, function, when, .. } = self.names;
        let span = variable.span().resolved_at(Span::mixed_site());
        let library = self.names.library(span);
        // With the variable's span `line!()` is not part of an expansion and gives the variable's line.
        let line = quote_spanned! { variable.span() => ::core::line!() };
        let stage = wanted.stage.as_ref().unwrap_or(stage);
        let label = wanted.stage.is_none().then(|| LitStr::new(&wanted.label, Span::mixed_site()));
        let label = label.map(|label| quote_spanned! { span => , #label });
        let binding = quote_spanned! { span => #library::private::binding!(#stage, #function, #line #label) };
        Some(Record { variable: variable.clone(), binding, library, when: when.cloned(), named: wanted.named })
    }

    /// The records of a `let` with an initial value, in the order of its pattern.
    fn records_of(&mut self, local: &Local) -> Vec<Record> {
        let Some(init) = &local.init else { return Vec::new() };
        let mut variables = Vec::new();
        bound(&local.pat, &mut variables);
        if init.diverge.is_some() {
            // In a pattern that may fail to match, such a name is a constant or a variant.
            variables.retain(|variable| !is_capitalised(variable));
        }
        variables.iter().filter_map(|variable| self.record(variable)).collect()
    }

    /// Whether the value of a variable passes through the record: what a future borrows counts as borrowed until its
    /// scope ends, and the future could no longer move to another thread if the variable cannot. A variable that
    /// `locals(..)` names holds tensors, which can.
    fn passes(&self, record: &Record) -> bool {
        self.in_future && record.named.is_none()
    }
}

// What `#[async_trait]` makes of a body:
//     {
//         if let Some(__ret) = None::<Ret> { return __ret; }
//         let __self = self;
//         let x = x;
//         let __ret: Ret = { <the user's body> };
//         __ret
//     }
//
// Only what is inside `__ret` is the user's.
fn is_made_by_async_trait(block: &Block) -> bool {
    let Some(Stmt::Expr(Expr::If(first), None)) = block.stmts.first() else { return false };
    let Expr::Let(told) = &*first.cond else { return false };
    let Pat::TupleStruct(some) = &*told.pat else { return false };
    matches!(some.elems.first(), Some(Pat::Ident(name)) if name.ident == "__ret")
}

impl Body<'_> {
    // Input:  y = x.neg()?
    // Output: y = ::bitnet_trace::private::passed(..., x.neg()?), in a future
    fn assignment(&mut self, assign: ExprAssign, record: Option<&Record>) -> Expr {
        let mut assign = fold_expr_assign(self, assign);
        if let Some(record) = record.filter(|record| self.passes(record)) {
            *assign.right = Expr::Verbatim(record.passed(&assign.right));
        }
        Expr::Assign(assign)
    }

    fn inside_async_trait(&mut self, block: Block) -> Block {
        let stmts = block.stmts.into_iter().map(|stmt| match stmt {
            Stmt::Local(local) if binds(&local.pat, &Ident::new("__ret", Span::call_site())) => {
                Stmt::Local(fold_local(self, local))
            }
            other => other,
        });
        Block { stmts: stmts.collect(), ..block }
    }
}

/// The variables of an identifier or a tuple of identifiers.
fn bound(pat: &Pat, variables: &mut Vec<Ident>) {
    match pat {
        Pat::Ident(PatIdent { ident, subpat: None, .. }) => variables.push(ident.clone()),
        Pat::Tuple(tuple) => tuple.elems.iter().for_each(|pat| match pat {
            Pat::Ident(_) | Pat::Paren(_) => bound(pat, variables),
            _ => {}
        }),
        Pat::Type(typed) => bound(&typed.pat, variables),
        Pat::Paren(inner) => bound(&inner.pat, variables),
        _ => {}
    }
}

/// The variable that an expression assigns to, unless it may be a static.
fn assigned(assign: &ExprAssign) -> Option<Ident> {
    let Expr::Path(path) = &*assign.left else { return None };
    let variable = path.path.get_ident().filter(|_| path.qself.is_none())?;
    (!is_capitalised(variable)).then(|| variable.clone())
}

fn is_capitalised(ident: &Ident) -> bool {
    ident.unraw().to_string().starts_with(char::is_uppercase)
}

/// Whether a pattern binds a variable, at any depth.
fn binds(pat: &Pat, variable: &Ident) -> bool {
    struct Search<'a>(&'a Ident, bool);
    impl Fold for Search<'_> {
        fn fold_pat_ident(&mut self, pat: PatIdent) -> PatIdent {
            self.1 |= pat.ident == *self.0;
            fold_pat_ident(self, pat)
        }
    }
    let mut search = Search(variable, false);
    search.fold_pat(pat.clone());
    search.1
}

impl Fold for Body<'_> {
    fn fold_block(&mut self, block: Block) -> Block {
        if is_made_by_async_trait(&block) {
            return self.inside_async_trait(block);
        }
        let mut stmts = Vec::with_capacity(block.stmts.len());
        for stmt in block.stmts {
            match stmt {
                Stmt::Local(local) => {
                    // The bindings are numbered in the order of the source, and so before those in the value.
                    let records = self.records_of(&local);
                    let mut local = fold_local(self, local);
                    let added: Vec<_> = records
                        .iter()
                        .map(|record| {
                            if self.passes(record) {
                                record.rebound(&mut local.pat, &local.attrs)
                            } else {
                                record.after(&local.attrs)
                            }
                        })
                        .collect();
                    stmts.push(Stmt::Local(local));
                    stmts.extend(added);
                }
                Stmt::Expr(Expr::Assign(assign), semi) => {
                    let record = assigned(&assign).and_then(|variable| self.record(&variable));
                    let added = record.as_ref().filter(|record| !self.passes(record)).map(|it| it.after(&assign.attrs));
                    let assign = self.assignment(assign, record.as_ref());
                    let semi = semi.or_else(|| added.is_some().then(Default::default));
                    stmts.push(Stmt::Expr(assign, semi));
                    stmts.extend(added);
                }
                other => stmts.push(self.fold_stmt(other)),
            }
        }
        Block { stmts, ..block }
    }

    // Input:  Some(_) => x = y,
    // Output: Some(_) => { x = y; ::bitnet_trace::private::local(..., &x); },
    fn fold_expr(&mut self, expr: Expr) -> Expr {
        match expr {
            Expr::Assign(assign) => {
                let record = assigned(&assign).and_then(|variable| self.record(&variable));
                let added = record.as_ref().filter(|record| !self.passes(record)).map(|record| record.after(&[]));
                let span = assign.eq_token.spans[0].resolved_at(Span::mixed_site());
                let assign = self.assignment(assign, record.as_ref());
                match added {
                    Some(added) => Expr::Block(parse_quote_spanned! { span => { #assign; #added } }),
                    None => assign,
                }
            }
            Expr::Async(block) => {
                let (outer, loops) = (std::mem::replace(&mut self.in_future, true), self.loops);
                let block = fold_expr_async(self, block);
                self.in_future = outer;
                if self.loops == loops {
                    return Expr::Async(block);
                }
                let span = block.async_token.span.resolved_at(Span::mixed_site());
                let library = self.names.library(span);
                Expr::Verbatim(quote_spanned! { span => #library::private::kept(#block) })
            }
            // What is evaluated at compile time cannot record.
            Expr::Const(constant) => Expr::Const(constant),
            other => fold_expr(self, other),
        }
    }

    fn fold_expr_for_loop(&mut self, pass: ExprForLoop) -> ExprForLoop {
        let counts = self.layers.is_some_and(|layers| binds(&pass.pat, layers));
        let mut pass = fold_expr_for_loop(self, pass);
        if counts {
            self.loops += 1;
            let over = &pass.expr;
            let span = pass.for_token.span.resolved_at(Span::mixed_site());
            let library = self.names.library(span);
            *pass.expr = Expr::Verbatim(quote_spanned! { span => #library::private::layers(#over) });
        }
        pass
    }

    fn fold_expr_closure(&mut self, closure: ExprClosure) -> ExprClosure {
        if closure.constness.is_some() {
            return closure;
        }
        let outer = std::mem::replace(&mut self.in_future, closure.asyncness.is_some());
        let closure = fold_expr_closure(self, closure);
        self.in_future = outer;
        closure
    }

    fn fold_expr_repeat(&mut self, repeat: ExprRepeat) -> ExprRepeat {
        // The length is evaluated at compile time.
        ExprRepeat { expr: Box::new(self.fold_expr(*repeat.expr)), ..repeat }
    }

    fn fold_item(&mut self, item: Item) -> Item {
        item
    }

    fn fold_macro(&mut self, call: Macro) -> Macro {
        call
    }

    fn fold_type(&mut self, ty: Type) -> Type {
        ty
    }

    fn fold_pat(&mut self, pat: Pat) -> Pat {
        pat
    }

    fn fold_generic_argument(&mut self, argument: GenericArgument) -> GenericArgument {
        argument
    }

    fn fold_attribute(&mut self, attribute: Attribute) -> Attribute {
        attribute
    }
}
