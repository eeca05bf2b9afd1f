//! `#[derive(Traced)]` when tracing is not built in: an implementation without a body, so that
//! bounds hold. Reads the type's head token by token, as syn is not there.

use proc_macro::{Delimiter, Ident, Punct, Spacing, TokenStream, TokenTree};

// Input:  pub struct Heads<'a, T: Clone = Tensor, const N: usize = 1> where T: Sync { ... }
// Output: impl<'a, T: Clone, const N: usize> ::bitnet_trace::Traced for Heads<'a, T, N> where T: Sync {}
//
// Nothing for what the compiler refuses anyway.
pub(crate) fn derive(item: TokenStream) -> TokenStream {
    let Some(head) = Head::parse(item) else { return TokenStream::new() };
    let mut output = TokenStream::new();
    output.extend(tokens("#[automatically_derived] impl"));
    output.extend(angled(head.declared));
    output.extend(head.library);
    output.extend(tokens("::Traced for"));
    output.extend([TokenTree::from(head.name)]);
    output.extend(angled(head.named));
    output.extend(head.conditions);
    output.extend(tokens("{}"));
    output
}

/// A type's declaration as far as an implementation repeats it.
struct Head {
    name: Ident,
    /// `'a, T: Clone, const N: usize`: without defaults.
    declared: Vec<TokenTree>,
    /// `'a, T, N`.
    named: Vec<TokenTree>,
    /// The where-clause.
    conditions: Vec<TokenTree>,
    /// `::bitnet_trace`, or what `#[traced(crate = path)]` says.
    library: TokenStream,
}

impl Head {
    fn parse(item: TokenStream) -> Option<Self> {
        let mut item = item.into_iter().peekable();
        let mut library = tokens("::bitnet_trace");
        // Attributes and visibility, up to the keyword.
        loop {
            match item.next()? {
                TokenTree::Group(attribute) if attribute.delimiter() == Delimiter::Bracket => {
                    library = crate_path(attribute.stream()).unwrap_or(library);
                }
                TokenTree::Ident(ident) if matches!(ident.to_string().as_str(), "struct" | "enum" | "union") => break,
                _ => {}
            }
        }
        let TokenTree::Ident(name) = item.next()? else { return None };
        let mut parameters = vec![Vec::new()];
        if item.next_if(|token| is(token, '<')).is_some() {
            let mut angles = Angles::default();
            loop {
                let token = item.next()?;
                match angles.outside(&token) {
                    true if is(&token, '>') => break,
                    true if is(&token, ',') => parameters.push(Vec::new()),
                    _ => parameters.last_mut()?.push(token),
                }
            }
        }
        parameters.retain(|parameter| !parameter.is_empty());
        // The where-clause stands before the fields in braces, or between those in parentheses and
        // the semicolon.
        let mut rest: Vec<TokenTree> = item.collect();
        rest.pop();
        let is_where = |token: &TokenTree| matches!(token, TokenTree::Ident(ident) if ident.to_string() == "where");
        let conditions = rest.into_iter().skip_while(|token| !is_where(token)).collect();
        Some(Self {
            name,
            declared: joined(parameters.iter().map(|parameter| without_default(parameter))),
            named: joined(parameters.iter().map(|parameter| name_of(parameter))),
            conditions,
            library,
        })
    }
}

/// Follows angle brackets, which are no groups.
#[derive(Default)]
struct Angles {
    depth: usize,
    /// The `>` of `->` closes nothing.
    arrow: bool,
}

impl Angles {
    /// Whether the token stands outside all brackets that were opened here; those themselves do not.
    fn outside(&mut self, token: &TokenTree) -> bool {
        let outside = self.depth == 0;
        if is(token, '<') {
            self.depth += 1;
            return false;
        }
        if is(token, '>') && !self.arrow {
            self.depth = self.depth.saturating_sub(1);
        }
        self.arrow = is(token, '-');
        outside
    }
}

/// `traced(crate = my::path)` is `my::path`.
fn crate_path(attribute: TokenStream) -> Option<TokenStream> {
    let mut tokens = attribute.into_iter();
    let TokenTree::Ident(name) = tokens.next()? else { return None };
    let TokenTree::Group(arguments) = tokens.next()? else { return None };
    let mut arguments = arguments.stream().into_iter();
    let TokenTree::Ident(key) = arguments.next()? else { return None };
    let wanted = name.to_string() == "traced" && key.to_string() == "crate" && is(&arguments.next()?, '=');
    wanted.then(|| arguments.take_while(|token| !is(token, ',')).collect())
}

/// `T: Clone = Tensor` without what stands behind the outermost `=`.
fn without_default(parameter: &[TokenTree]) -> Vec<TokenTree> {
    let mut angles = Angles::default();
    parameter.iter().take_while(|token| !(angles.outside(token) && is(token, '='))).cloned().collect()
}

/// `'a`, `T`, or the `N` of `const N: usize`; attributes and bounds left off.
fn name_of(parameter: &[TokenTree]) -> Vec<TokenTree> {
    let mut tokens = parameter.iter().cloned().peekable();
    while tokens.next_if(|token| is(token, '#')).is_some() {
        tokens.next();
    }
    tokens.next_if(|token| matches!(token, TokenTree::Ident(ident) if ident.to_string() == "const"));
    let mut name = Vec::new();
    name.extend(tokens.next_if(|token| is(token, '\'')));
    name.extend(tokens.next());
    name
}

fn joined(parameters: impl Iterator<Item = Vec<TokenTree>>) -> Vec<TokenTree> {
    let comma = || TokenTree::from(Punct::new(',', Spacing::Alone));
    parameters.flat_map(|parameter| parameter.into_iter().chain([comma()])).collect()
}

fn angled(parameters: Vec<TokenTree>) -> Vec<TokenTree> {
    if parameters.is_empty() {
        return parameters;
    }
    let angle = |character| TokenTree::from(Punct::new(character, Spacing::Alone));
    [angle('<')].into_iter().chain(parameters).chain([angle('>')]).collect()
}

/// The tokens of a text of ours.
fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}
