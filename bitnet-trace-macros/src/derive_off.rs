//! `#[derive(Traced)]` without the feature `trace`: an implementation without a body, so that bounds
//! on the type hold. It reads the type's declaration token by token, because syn is not a dependency here.

use proc_macro::{Delimiter, Ident, Punct, Spacing, TokenStream, TokenTree};

// Input:  pub struct Heads<'a, T: Clone = Tensor, const N: usize = 1> where T: Sync { ... }
// Output: impl<'a, T: Clone, const N: usize> ::bitnet_trace::Traced for Heads<'a, T, N> where T: Sync {}
//
// The output is empty for input that the compiler refuses anyway.
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

/// The parts of a type's declaration that an implementation repeats.
struct Head {
    name: Ident,
    /// The parameters without their defaults: `'a, T: Clone, const N: usize`.
    declared: Vec<TokenTree>,
    /// The names of the parameters: `'a, T, N`.
    named: Vec<TokenTree>,
    /// The where-clause.
    conditions: Vec<TokenTree>,
    /// `::bitnet_trace`, or the path in `#[traced(crate = path)]`.
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
        // The where-clause comes before fields in braces, or between fields in parentheses and the
        // semicolon.
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

/// Counts angle brackets: unlike other brackets, they do not form a token group.
#[derive(Default)]
struct Angles {
    depth: usize,
    /// Whether the last token was `-`: the `>` of `->` closes no bracket.
    arrow: bool,
}

impl Angles {
    /// Whether the token is outside all brackets that were opened here. The brackets themselves count as inside.
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

/// Returns the path in `traced(crate = my::path)`.
fn crate_path(attribute: TokenStream) -> Option<TokenStream> {
    let mut tokens = attribute.into_iter();
    let TokenTree::Ident(name) = tokens.next()? else { return None };
    let TokenTree::Group(arguments) = tokens.next()? else { return None };
    let mut arguments = arguments.stream().into_iter();
    let TokenTree::Ident(key) = arguments.next()? else { return None };
    let wanted = name.to_string() == "traced" && key.to_string() == "crate" && is(&arguments.next()?, '=');
    wanted.then(|| arguments.take_while(|token| !is(token, ',')).collect())
}

/// Drops the default of a parameter: `T: Clone = Tensor` becomes `T: Clone`.
fn without_default(parameter: &[TokenTree]) -> Vec<TokenTree> {
    let mut angles = Angles::default();
    parameter.iter().take_while(|token| !(angles.outside(token) && is(token, '='))).cloned().collect()
}

/// Returns the name of a parameter without attributes and bounds: `'a`, `T`, or the `N` of `const N: usize`.
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

/// Parses a text of this file.
fn tokens(text: &str) -> TokenStream {
    text.parse().unwrap_or_default()
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}
