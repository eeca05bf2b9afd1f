//! Bounds for the lists of a template.
//!
//! minijinja limits steps and texts, but not lists that hold themselves many times, are joined to themselves or repeated,
//! or hold the namespace that holds them. So each value is checked where a variable gets it, and where an operator or a
//! filter looks through it, by calls that are written into the source: `{% set x = y %}` becomes
//! `{% set x = bounded((y)) %}`, and `x ~ y | f` becomes `value((x)) ~ value((y | value | f))`. Lines stay the same, for the
//! messages.

use std::collections::BTreeSet;

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::cost;

/// The calls' names; a template that has them is refused, so that it cannot give them another meaning.
const BOUNDED: &str = "bitnet_bounded";
const BOUNDED_ATTRIBUTE: &str = "bitnet_bounded_attribute";
const BOUNDED_VALUE: &str = "bitnet_bounded_value";
const BOUNDED_FACTOR: &str = "bitnet_bounded_factor";

/// Operators that look through lists.
const LOOK_THROUGH: [&str; 8] = ["~", "==", "!=", "<", ">", "<=", ">=", "in"];

/// Words that are no values, besides the first one of a tag.
const KEYWORDS: [&str; 8] = ["if", "else", "in", "not", "and", "or", "is", "recursive"];

/// Most bytes of a tag besides texts in quotes and spaces: the time that minijinja takes for an expression grows with
/// more than its length. Published ones have up to some 300.
const LONGEST_TAG: usize = 2048;

/// Defines the calls.
pub(super) fn add_to(environment: &mut Environment<'_>) {
    environment.add_function(BOUNDED, |state: &State, value: Value| bounded(state, value));
    environment.add_function(BOUNDED_ATTRIBUTE, |state: &State, value: Value| bounded_attribute(state, value));
    environment.add_function(BOUNDED_VALUE, |state: &State, value: Value| bounded_value(state, value));
    environment.add_function(BOUNDED_FACTOR, bounded_factor);
    environment.add_filter(BOUNDED_VALUE, |state: &State, value: Value| bounded_value(state, value));
    environment.add_filter(BOUNDED, |state: &State, value: Value| bounded(state, value));
    environment.add_filter(BOUNDED_ATTRIBUTE, |state: &State, value: Value| bounded_attribute(state, value));
}

fn bounded(state: &State, value: Value) -> Result<Value, Error> {
    cost::of(state, &value)?;
    if holds_namespace(&value)? {
        return Err(refused());
    }
    // What is computed when it is used, such as a part of a list, may hide as much of the like.
    if value.kind() == ValueKind::Iterable {
        return value.try_iter()?.checked().collect::<Result<Vec<_>, _>>().map(Value::from);
    }
    Ok(value)
}

fn bounded_attribute(state: &State, value: Value) -> Result<Value, Error> {
    if is_namespace(&value) { Err(refused()) } else { bounded(state, value) }
}

fn bounded_value(state: &State, value: Value) -> Result<Value, Error> {
    cost::of(state, &value)?;
    Ok(value)
}

/// A repeated list is computed when it is used, and so is what a list of them repeats.
fn bounded_factor(value: Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            Err(Error::new(ErrorKind::InvalidOperation, "only texts and numbers can be multiplied"))
        }
        _ => Ok(value),
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::InvalidOperation, "a namespace can be kept in a variable only, not in lists or namespaces")
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// Whether a namespace is inside a value. Its depth and size are known to be small.
fn holds_namespace(value: &Value) -> Result<bool, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::Iterable) {
        return Ok(false);
    }
    for item in value.try_iter()?.checked() {
        let mut item = item?;
        if value.kind() == ValueKind::Map {
            item = value.get_item(&item)?;
        }
        if is_namespace(&item) || holds_namespace(&item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes the calls into a template; the error is why it is refused.
pub(super) fn write_into(source: &str) -> Result<String, String> {
    if source.contains(BOUNDED) {
        return Err(format!("the name `{BOUNDED}` is reserved"));
    }
    let mut written = String::with_capacity(source.len() * 2);
    let mut at = 0;
    while let Some(start) = next_marker(source, at) {
        written.push_str(&source[at..start]);
        let rest = &source[start..];
        let inside = 2 + usize::from(rest[2..].starts_with(['-', '+']));
        let end = match rest.as_bytes()[1] {
            b'#' => rest[inside.min(rest.len())..].find("#}").map(|end| inside + end + 2),
            b'%' if basic(&rest[inside..], "raw", false).is_some() => end_of_raw(rest, inside),
            opened => match Tag::read(rest, inside, if opened == b'%' { b'%' } else { b'}' }) {
                Some(tag) => {
                    if tag.code() > LONGEST_TAG {
                        let line = 1 + source[..start].matches('\n').count();
                        return Err(format!(
                            "line {line}: the code of a tag has {} bytes; expected at most {LONGEST_TAG}",
                            tag.code()
                        ));
                    }
                    let checked = tag.checked();
                    match Tag::read(&checked, inside, if opened == b'%' { b'%' } else { b'}' }) {
                        Some(tag) if opened == b'%' => written.push_str(&tag.bounded()),
                        _ => written.push_str(&checked),
                    }
                    at = start + tag.text.len();
                    continue;
                }
                None => None,
            },
        };
        // What has no end is left to the parser, which says so.
        let end = end.unwrap_or(rest.len());
        written.push_str(&rest[..end]);
        at = start + end;
    }
    written.push_str(&source[at..]);
    Ok(written)
}

/// Where the next tag or comment begins.
fn next_marker(source: &str, from: usize) -> Option<usize> {
    let pairs = source.as_bytes()[from..].windows(2);
    pairs.enumerate().find(|(_, pair)| matches!(pair, [b'{', b'{' | b'%' | b'#'])).map(|(at, _)| from + at)
}

/// The length of a tag that has nothing but a name, behind its first characters.
fn basic(text: &str, name: &str, with_sign: bool) -> Option<usize> {
    let signs: &[char] = &['-', '+'];
    let space = |text: &'_ str| text.len() - text.trim_ascii_start().len();
    let sign = usize::from(with_sign && text.starts_with(signs));
    let named = sign + space(&text[sign..]);
    let behind = named + text[named..].strip_prefix(name).map(|_| name.len())?;
    let end = behind + space(&text[behind..]);
    let end = end + usize::from(text[end..].starts_with(signs));
    text[end..].starts_with("%}").then_some(end + 2)
}

fn end_of_raw(rest: &str, inside: usize) -> Option<usize> {
    let mut at = inside;
    loop {
        at += rest[at..].find("{%")? + 2;
        if let Some(length) = basic(&rest[at..], "endraw", true) {
            return Some(at + length);
        }
    }
}

/// A piece of the code of a tag.
struct Token<'a> {
    text: &'a str,
    at: usize,
    /// The open brackets around it.
    depth: i64,
}

/// `{% ... %}` or `{{ ... }}`.
struct Tag<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    /// Where the code ends.
    end: usize,
}

impl<'a> Tag<'a> {
    /// Reads a tag as the lexer of minijinja does; `None` if it has no end.
    fn read(rest: &'a str, inside: usize, closed: u8) -> Option<Self> {
        let bytes = rest.as_bytes();
        let (mut tokens, mut at, mut depth) = (Vec::new(), inside, 0);
        loop {
            let first = *bytes.get(at)?;
            let sign = usize::from(matches!(first, b'-' | b'+'));
            if depth == 0 && bytes[at + sign..].starts_with(&[closed, b'}']) {
                return Some(Self { text: &rest[..at + sign + 2], tokens, end: at });
            }
            let length = match first {
                b'\'' | b'"' => quoted(&bytes[at..])?,
                _ if is_word(first) => name_or_number(&bytes[at..]),
                b'=' | b'!' | b'<' | b'>' if bytes.get(at + 1) == Some(&b'=') => 2,
                b'*' | b'/' if bytes.get(at + 1) == Some(&first) => 2,
                _ => 1,
            };
            depth -= i64::from(matches!(first, b')' | b']' | b'}'));
            if !first.is_ascii_whitespace() {
                // The bytes of a character that no code has are left to the parser.
                tokens.push(Token { text: rest.get(at..at + length).unwrap_or_default(), at, depth });
            }
            depth += i64::from(matches!(first, b'(' | b'[' | b'{'));
            at += length;
        }
    }

    /// The bytes of code.
    fn code(&self) -> usize {
        self.tokens.iter().map(|token| token.text).filter(|text| !text.starts_with(['\'', '"'])).map(str::len).sum()
    }

    /// The tag with calls around what operators look through.
    fn checked(&self) -> String {
        if self.tokens.iter().any(|token| token.depth < 0) {
            return self.text.to_owned();
        }
        // Where the calls begin and end; two operators may share one.
        let (mut opened, mut closed, mut filters) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let loops = self.tokens.first().is_some_and(|token| token.text == "for");
        let loop_in = self.tokens.iter().position(|token| loops && token.depth == 0 && token.text == "in");
        for (index, token) in self.tokens.iter().enumerate() {
            if Some(index) == loop_in || self.is_named(index) {
                continue;
            }
            let call = match token.text {
                "|" => {
                    filters.insert(token.at + 1);
                    continue;
                }
                "*" => BOUNDED_FACTOR,
                "is" => BOUNDED_VALUE,
                text if LOOK_THROUGH.contains(&text) => BOUNDED_VALUE,
                _ => continue,
            };
            let (left, right) = (self.value_before(index), self.value_behind(index));
            // Without a left one it unpacks a list, as in `f(*x)`.
            let right = right.filter(|_| token.text != "is" && (token.text != "*" || left.is_some()));
            for (first, last) in left.into_iter().chain(right) {
                let end = self.tokens[last].at + self.tokens[last].text.len();
                opened.insert((self.tokens[first].at, call));
                closed.insert((end, call));
            }
        }
        let mut written = String::with_capacity(self.text.len() * 2);
        for (at, character) in self.text.char_indices() {
            for _ in closed.range((at, "")..(at + 1, "")) {
                written.push_str("))");
            }
            if filters.contains(&at) {
                written.push_str(BOUNDED_VALUE);
                written.push('|');
            }
            for (_, call) in opened.range((at, "")..(at + 1, "")) {
                written.push_str(call);
                written.push_str("((");
            }
            written.push(character);
        }
        written
    }

    /// Whether a token is the name of an attribute or a filter, which may be that of an operator.
    fn is_named(&self, index: usize) -> bool {
        index > 0 && matches!(self.tokens[index - 1].text, "." | "|")
    }

    /// Whether a token continues a value at a depth: a name, a number, a text, brackets, an attribute, a filter.
    fn is_of_value(&self, index: usize, depth: i64) -> bool {
        let Token { text, depth: own, .. } = self.tokens[index];
        let word = |first: char| first.is_ascii_alphanumeric() || matches!(first, '_' | '\'' | '"');
        own > depth
            || own == depth
                && (self.is_named(index)
                    || text.starts_with(word) && !KEYWORDS.contains(&text)
                    || matches!(text, "." | "|" | "(" | ")" | "[" | "]" | "{" | "}"))
    }

    /// The first and the last token of the value before an operator; `None` if there is none, or it is part of a test.
    fn value_before(&self, operator: usize) -> Option<(usize, usize)> {
        let depth = self.tokens[operator].depth;
        let not = self.tokens[operator].text == "in" && operator > 0 && self.tokens[operator - 1].text == "not";
        let last = operator.checked_sub(1 + usize::from(not))?;
        let begin = usize::from(self.text.starts_with("{%"));
        let mut first = last + 1;
        while first > begin && self.is_of_value(first - 1, depth) {
            first -= 1;
        }
        let before = |back: usize| first.checked_sub(back).map_or("", |at| self.tokens[at].text);
        let tested = before(1) == "is" || (before(1) == "not" && before(2) == "is");
        (first <= last && !tested).then_some((first, last))
    }

    /// The first and the last token of the value behind an operator and its sign.
    fn value_behind(&self, operator: usize) -> Option<(usize, usize)> {
        let depth = self.tokens[operator].depth;
        let signs = self.tokens[operator + 1..].iter().take_while(|token| token.text == "-").count();
        let first = operator + 1 + signs;
        let behind = (first..self.tokens.len()).find(|at| !self.is_of_value(*at, depth)).unwrap_or(self.tokens.len());
        (first < behind).then(|| (first, behind - 1))
    }

    /// The tag with calls where variables get values.
    fn bounded(&self) -> String {
        // The parser refuses these, and shall not be given what it would accept instead.
        if self.tokens.iter().any(|token| token.depth < 0) {
            return self.text.to_owned();
        }
        let find = |from: usize, text: &str| {
            self.tokens.iter().skip(from).position(|token| token.depth == 0 && token.text == text).map(|at| from + at)
        };
        match self.tokens.first().map_or("", |token| token.text) {
            "set" => {
                let equals = find(1, "=");
                let target = &self.tokens[..equals.or_else(|| find(1, "|")).unwrap_or(self.tokens.len())];
                let call = if target.iter().any(|token| token.text == ".") { BOUNDED_ATTRIBUTE } else { BOUNDED };
                match equals {
                    Some(equals) => self.called(call, equals + 1, self.tokens.len()),
                    // A block: a text, unless filters make something else of it.
                    None if target.len() < self.tokens.len() => {
                        format!("{} | {call} {}", &self.text[..self.end], &self.text[self.end..])
                    }
                    None => self.text.to_owned(),
                }
            }
            "for" => {
                let Some(first) = find(1, "in").map(|at| at + 1) else { return self.text.to_owned() };
                let recursive = self.tokens.last().is_some_and(|token| token.text == "recursive");
                let end = self.tokens.len() - usize::from(recursive);
                self.called(BOUNDED, first, find(first + 1, "if").unwrap_or(end))
            }
            "macro" | "call" => self.followed(1),
            "with" => self.followed(0),
            _ => self.text.to_owned(),
        }
    }

    /// The tag with a call around the tokens from `first` to before `last`.
    fn called(&self, call: &str, first: usize, last: usize) -> String {
        if first >= last {
            return self.text.to_owned();
        }
        let (start, end) = (self.tokens[first].at, self.tokens.get(last).map_or(self.end, |token| token.at));
        format!("{}{call}(({})) {}", &self.text[..start], &self.text[start..end], &self.text[end..])
    }

    /// The tag followed by a call for each variable that it defines: names behind the first word, a bracket or a comma.
    fn followed(&self, depth: i64) -> String {
        let mut written = self.text.to_owned();
        let close = &self.text[self.end..];
        // `call(x) f(y)` defines x.
        let brackets = self.tokens.iter().filter(|token| depth == 1 && token.depth == 0 && token.text == ")");
        let end = brackets.map(|token| token.at).next().unwrap_or(self.end);
        let defines = !(self.tokens[0].text == "call" && self.tokens.get(1).is_none_or(|token| token.text != "("));
        for pair in self.tokens.windows(2).filter(|_| defines) {
            let [before, name] = pair else { continue };
            let begins = match before.text {
                "," => before.depth == depth,
                "(" => depth == 1 && before.depth == 0,
                "with" => depth == 0 && before.at == self.tokens[0].at,
                _ => false,
            };
            let is_name = name.text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
            if begins && is_name && name.at < end {
                let name = name.text;
                written.extend(["{% set ", name, " = ", BOUNDED, "((", name, ")) ", close]);
            }
        }
        written
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The length of a name, or of a number with the sign of its exponent.
fn name_or_number(bytes: &[u8]) -> usize {
    let word = |from: usize| bytes[from..].iter().take_while(|byte| is_word(**byte)).count();
    let length = word(0);
    let digits =
        bytes[0].is_ascii_digit() && bytes[..length - 1].iter().all(|byte| byte.is_ascii_digit() || *byte == b'_');
    let exponent = length > 1 && digits && matches!(bytes[length - 1], b'e' | b'E');
    let sign = usize::from(exponent && matches!(bytes.get(length), Some(b'+' | b'-')));
    length + sign + if sign > 0 { word(length + sign) } else { 0 }
}

/// The length of a text in quotes; `None` if it has no end.
fn quoted(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    let end = bytes.iter().skip(1).position(|byte| {
        let ends = !escaped && *byte == bytes[0];
        escaped = !escaped && *byte == b'\\';
        ends
    });
    end.map(|end| end + 2)
}

#[cfg(test)]
mod tests {
    use super::write_into;

    #[test]
    fn the_calls_are_written_where_variables_get_values() {
        let written = |source: &str| {
            let written = write_into(source).expect("written");
            written
                .replace("bitnet_bounded_value", "V")
                .replace("bitnet_bounded_factor", "F")
                .replace("bitnet_bounded", "B")
        };
        for (source, expected) in [
            ("{% set x = 1 %}", "{% set x = B((1 )) %}"),
            ("{%- set x=y==z,[1]-%}", "{%- set x=B((V((y))==V((z)),[1])) -%}"),
            ("{% set ns.x = '%}' %}", "{% set ns.x = B_attribute(('%}' )) %}"),
            ("{% set x %}{{ '{% set y = 1 %}' }}{% endset %}", "{% set x %}{{ '{% set y = 1 %}' }}{% endset %}"),
            ("{% set a.x | d(b, true) %}", "{% set a.x |V| d(b, true)  | B_attribute %}"),
            ("{% for k, v in x.items() if k %}", "{% for k, v in B((x.items() )) if k %}"),
            ("{% for a in [b if c else d] recursive %}", "{% for a in B(([b if c else d] )) recursive %}"),
            ("{% for a in recursive + recursive %}", "{% for a in B((recursive + )) recursive %}"),
            (
                "{% macro f(x, y=[1, z]) -%}\n",
                "{% macro f(x, y=[1, z]) -%}{% set x = B((x)) -%}{% set y = B((y)) -%}\n",
            ),
            ("{% call(x) f(y, z) %}", "{% call(x) f(y, z) %}{% set x = B((x)) %}"),
            ("{% call f(y) %}", "{% call f(y) %}"),
            ("{% with a=[b, c], d=e %}", "{% with a=[b, c], d=e %}{% set a = B((a)) %}{% set d = B((d)) %}"),
            (
                "{# {% set x = 1 %} #}{% raw %}{% set x = 1 %}{%- endraw %}",
                "{# {% set x = 1 %} #}{% raw %}{% set x = 1 %}{%- endraw %}",
            ),
            ("{{ {'a': {}} }}{% set é = 'é' %}", "{{ {'a': {}} }}{% set é = B(('é' )) %}"),
            ("{% set x = 1)) ~ ((x %}", "{% set x = 1)) ~ ((x %}"),
            ("{% set x = ", "{% set x = "),
            (
                "{{ a.b[c ~ d]|f(e) ~ -g if h not in i }}",
                "{{ V((a.b[V((c)) ~ V((d))]|V|f(e))) ~ -V((g)) if V((h)) not in V((i)) }}",
            ),
            ("{{ f(*a, **b) * 2 ** 'é' }}", "{{ F((f(*a, **b))) * F((2)) ** 'é' }}"),
            ("{{ a is not b == c and d is e }}", "{{ V((a)) is not b == V((c)) and V((d)) is e }}"),
            ("{{ a.call ~ b.in.if.name|set == 1 }}", "{{ V((a.call)) ~ V((b.in.if.name|V|set)) == V((1)) }}"),
            (
                "{{ 1e-7 ~ 1.5E+3-2 == 0x1e-3 ~ _e-1 }}",
                "{{ V((1e-7)) ~ V((1.5E+3))-V((2)) == V((0x1e))-V((3)) ~ V((_e))-1 }}",
            ),
            ("{% do set ~ with %}{{ call == filter }}", "{% do V((set)) ~ V((with)) %}{{ V((call)) == V((filter)) }}"),
            ("{{ a ~ b * c }}", "{{ V((a)) ~ F((V((b)))) * F((c)) }}"),
            ("{% set x = %}{% for %}{%%}{{", "{% set x = %}{% for %}{%%}{{"),
        ] {
            assert_eq!(written(source), expected);
        }
        assert!(write_into("{% set bitnet_bounded = 1 %}").is_err());
        assert!(
            write_into(&format!("\n{{{{ 1{} }}}}", "+1".repeat(2000)))
                .is_err_and(|error| error.starts_with("line 2: "))
        );
        assert!(write_into(&format!("{{{{ '{}' }}}}", "+1".repeat(2000))).is_ok());
    }
}
