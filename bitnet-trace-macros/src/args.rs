//! The attribute's arguments: each key of `KEYS` may be given once, in any order.

use proc_macro2::Ident;
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Expr, LitStr, Path, Result, Token};

use crate::nearest;
use crate::picks::Pick;

/// Every key, in the order in which the messages list them.
const KEYS: [&str; 9] = ["stage", "layer", "seq", "outputs", "inputs", "locals", "layers", "when", "crate"];

/// What `locals` takes.
const LOCALS: &str = "names of variables, as in `locals(q as \"q_proj\", q as _, att)`";

/// The arguments between the parentheses of `#[traced(...)]`.
#[derive(Default)]
pub(crate) struct Args {
    /// The stage's name; the function's own name when left out.
    pub(crate) stage: Option<LitStr>,
    /// An integer or `Option` of one: opens a layer scope.
    pub(crate) layer: Option<Expr>,
    /// An integer or `Option` of one: opens a scope for the sequence index.
    pub(crate) seq: Option<Expr>,
    /// Names of the tensors of a tuple.
    pub(crate) outputs: Vec<LitStr>,
    /// Arguments to record before the body runs.
    pub(crate) inputs: Vec<Ident>,
    /// Bindings of the body to record: all if the list is empty.
    pub(crate) locals: Option<Vec<Pick>>,
    /// The variable of the loop whose passes are layers.
    pub(crate) layers: Option<Ident>,
    /// Records only while this is true.
    pub(crate) when: Option<Expr>,
    /// Path to the library, `::bitnet_trace` when left out.
    pub(crate) library: Option<Path>,
}

impl Parse for Args {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut args = Self::default();
        while !input.is_empty() {
            if input.peek(LitStr) {
                let text: LitStr = input.parse()?;
                return Err(Error::new(text.span(), format!("expected `stage = {:?}`", text.value())));
            }
            let key = Ident::parse_any(input)?;
            match key.to_string().as_str() {
                "stage" => {
                    unseen(args.stage.is_some(), &key)?;
                    args.stage = Some(stage(input, &key)?);
                }
                "layer" => {
                    unseen(args.layer.is_some(), &key)?;
                    args.layer = Some(value(input, &key)?);
                }
                "seq" => {
                    unseen(args.seq.is_some(), &key)?;
                    args.seq = Some(value(input, &key)?);
                }
                "outputs" => {
                    unseen(!args.outputs.is_empty(), &key)?;
                    args.outputs = list(input, &key, "names in quotes, as in `outputs(\"q\", \"k\", \"v\")`")?;
                }
                "inputs" => {
                    unseen(!args.inputs.is_empty(), &key)?;
                    args.inputs = list(input, &key, "names of arguments, as in `inputs(x, mask)`")?;
                }
                "locals" => {
                    unseen(args.locals.is_some(), &key)?;
                    let is_list = !input.is_empty() && !input.peek(Token![,]);
                    args.locals = Some(if is_list { list(input, &key, LOCALS)? } else { Vec::new() });
                }
                "layers" => {
                    unseen(args.layers.is_some(), &key)?;
                    args.layers = Some(one(input, &key, "the variable of a `for` loop, as in `layers(layer)`")?);
                }
                "when" => {
                    unseen(args.when.is_some(), &key)?;
                    args.when = Some(value(input, &key)?);
                }
                "crate" => {
                    unseen(args.library.is_some(), &key)?;
                    equals(input, &key, "my_crate::bitnet_trace")?;
                    args.library = Some(input.call(Path::parse_mod_style)?);
                }
                other => return Err(nearest::unknown(other, key.span(), &KEYS)),
            }
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(args)
    }
}

fn stage(input: ParseStream<'_>, key: &Ident) -> Result<LitStr> {
    equals(input, key, "\"attn_norm\"")?;
    let stage: LitStr =
        input.parse().map_err(|error| Error::new(error.span(), "expected a string, as in `stage = \"attn_norm\"`"))?;
    if stage.value().is_empty() {
        return Err(Error::new(
            stage.span(),
            "the stage's name is empty; leave `stage` out to use the function's name",
        ));
    }
    Ok(stage)
}

/// Parses a list of at least one item, in parentheses.
fn list<T: Parse>(input: ParseStream<'_>, key: &Ident, expected: &str) -> Result<Vec<T>> {
    let explain = |error: Error| Error::new(error.span(), format!("expected {expected}"));
    if !input.peek(syn::token::Paren) {
        return Err(Error::new(key.span(), format!("expected {expected}")));
    }
    let content;
    syn::parenthesized!(content in input);
    let items = content.parse_terminated(T::parse, Token![,]).map_err(explain)?;
    if items.is_empty() {
        return Err(Error::new(key.span(), format!("`{key}` is empty, expected {expected}")));
    }
    Ok(items.into_iter().collect())
}

/// Parses exactly one item, in parentheses.
fn one<T: Parse>(input: ParseStream<'_>, key: &Ident, expected: &str) -> Result<T> {
    let mut items = list(input, key, expected)?;
    match (items.pop(), items.is_empty()) {
        (Some(item), true) => Ok(item),
        _ => Err(Error::new(key.span(), format!("expected {expected}"))),
    }
}

fn value(input: ParseStream<'_>, key: &Ident) -> Result<Expr> {
    equals(input, key, if key == "when" { "self.debug" } else { "self.index" })?;
    input.parse()
}

/// Parses the `=` and requires that something follows. While these are not typed yet, the error underlines the key.
fn equals(input: ParseStream<'_>, key: &Ident, example: &str) -> Result<()> {
    let sign = input.parse::<Option<Token![=]>>()?;
    if sign.is_none() || input.is_empty() {
        return Err(Error::new(key.span(), format!("expected a value, as in `{key} = {example}`")));
    }
    Ok(())
}

fn unseen(seen: bool, key: &Ident) -> Result<()> {
    if seen { Err(Error::new(key.span(), format!("`{key}` is given twice"))) } else { Ok(()) }
}
