//! Which bindings `locals` records, and under which names.

use std::collections::HashMap;

use proc_macro2::{Ident, Span};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Error, LitStr, Result, Token};

/// One entry of `locals(..)`: `q`, `q as "q_proj"` or `q as _`.
pub(crate) struct Pick {
    pub(crate) variable: Ident,
    rename: Rename,
}

enum Rename {
    /// `q`: recorded as a local of the function.
    None,
    /// `q as "q_proj"`: a stage of its own.
    Stage(LitStr),
    /// `q as _`: this binding is not recorded.
    Skip,
}

impl Parse for Pick {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let variable = input.call(Ident::parse_any)?;
        let rename = if input.parse::<Option<Token![as]>>()?.is_none() {
            Rename::None
        } else if input.parse::<Option<Token![_]>>()?.is_some() {
            Rename::Skip
        } else {
            let stage: LitStr = input.parse()?;
            if stage.value().is_empty() {
                return Err(Error::new(stage.span(), "the stage's name is empty"));
            }
            Rename::Stage(stage)
        };
        Ok(Self { variable, rename })
    }
}

/// How one binding is recorded.
pub(crate) struct Wanted {
    /// A stage of its own; without one it is a local of the function.
    pub(crate) stage: Option<LitStr>,
    /// `q`, or `q.2` for the second binding of `q` in the body.
    pub(crate) label: String,
    /// Where `locals(..)` names the variable, which then must hold a tensor.
    pub(crate) named: Option<Span>,
}

/// The entries of `locals(..)`, and how often each variable was bound so far, in the order of the source.
pub(crate) struct Picks<'a> {
    /// Empty: every binding is recorded.
    picks: &'a [Pick],
    bound: HashMap<String, usize>,
}

impl<'a> Picks<'a> {
    pub(crate) fn new(picks: &'a [Pick]) -> Self {
        Self { picks, bound: HashMap::new() }
    }

    /// Counts a binding. Returns `None` if it is not recorded.
    pub(crate) fn take(&mut self, variable: &Ident) -> Option<Wanted> {
        let name = variable.unraw().to_string();
        let count = self.bound.entry(name.clone()).or_insert(0);
        *count += 1;
        let label = if *count == 1 { name } else { format!("{name}.{count}") };
        if self.picks.is_empty() {
            return Some(Wanted { stage: None, label, named: None });
        }
        let of_variable: Vec<&Pick> = self.picks_of(variable).collect();
        let pick = match of_variable[..] {
            [pick] if pick.is_plain() => pick,
            _ => of_variable.get(*self.bound.get(&variable.unraw().to_string())? - 1)?,
        };
        let stage = match &pick.rename {
            Rename::Skip => return None,
            Rename::Stage(stage) => Some(stage.clone()),
            Rename::None => None,
        };
        Some(Wanted { stage, label, named: Some(pick.variable.span()) })
    }

    fn picks_of<'b>(&'b self, variable: &'b Ident) -> impl Iterator<Item = &'a Pick> + 'b {
        self.picks.iter().filter(|pick| pick.variable.unraw() == variable.unraw())
    }

    /// # Errors
    ///
    /// If an entry has no binding.
    pub(crate) fn finish(&self) -> Result<()> {
        let mut mentioned: HashMap<String, usize> = HashMap::new();
        for pick in self.picks {
            let name = pick.variable.unraw().to_string();
            let mentions = mentioned.entry(name.clone()).or_insert(0);
            *mentions += 1;
            let bound = self.bound.get(&name).copied().unwrap_or(0);
            if *mentions > bound {
                let message = match bound {
                    0 => format!("this body binds no variable `{name}` by `let {name} = ..` or `{name} = ..`"),
                    1 => format!("this body binds `{name}` once, but it is named {mentions} times here"),
                    _ => format!("this body binds `{name}` {bound} times, but it is named {mentions} times here"),
                };
                return Err(Error::new(pick.variable.span(), message));
            }
        }
        Ok(())
    }
}

impl Pick {
    /// `q`, which alone stands for every binding of `q`.
    fn is_plain(&self) -> bool {
        matches!(self.rename, Rename::None)
    }
}
