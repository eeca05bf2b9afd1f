//! Patterns for names: globs, and names with numbers in them. The one matcher of filters, tolerance rules and name
//! maps.
//!
//! A pattern that has no placeholder but `*` is matched by searching for its texts in turn; `regex-lite` matches all
//! other patterns. For `*q*` on a name of 28 bytes `regex-lite` takes 1.4 us, the search 0.1 us (a loop of `is_match`,
//! `--release`); 1.4 us is as much as a whole record takes without its digest.

use regex_lite::Regex;

/// Longest pattern, and longest name that a pattern with numbers is matched with, in bytes. No program has names nearly
/// as long, but a file may contain anything.
const LONGEST: usize = 4096;

/// A name with placeholders. The time to match is linear in the name.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    /// The text before the first placeholder. Prefix and suffix rule out most names at once.
    prefix: String,
    /// The text after the last placeholder.
    suffix: String,
    middle: Middle,
}

/// The part of a pattern between prefix and suffix.
#[derive(Debug, Clone)]
enum Middle {
    /// No placeholder: the prefix is all of the pattern.
    Nothing,
    /// These texts in this order, with any text before, between and after them.
    Texts(Vec<String>),
    /// The regular expression of the whole pattern.
    Regex(Regex),
}

/// The numbers in a name that matches a pattern.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Indices {
    pub(crate) layer: Option<usize>,
    pub(crate) seq: Option<usize>,
}

/// Pairs of a placeholder and its regular expression.
type Placeholders = &'static [(&'static str, &'static str)];

const ANY: (&str, &str) = ("*", "(?s:.*)");
const GLOB: Placeholders = &[ANY, ("?", "(?s:.)")];
const NAME: Placeholders = &[("{layer}", "(?<layer>[0-9]+)"), ("{seq}", "(?<seq>[0-9]+)"), ("{n}", "[0-9]+"), ANY];

impl Pattern {
    /// Parses a glob: `*` matches any text, `?` any one character, everything else itself.
    pub(crate) fn glob(text: &str) -> Result<Self, String> {
        Self::parse(text, GLOB)
    }

    /// Parses a pattern for names: `*` matches any text, `{layer}`, `{seq}` and `{n}` match numbers, everything else
    /// except `{` matches itself.
    pub(crate) fn of_name(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the pattern is empty, expected a name".to_owned());
        }
        Self::parse(text, NAME)
    }

    fn parse(text: &str, placeholders: Placeholders) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("the pattern has {} bytes, at most {LONGEST} are allowed", text.len()));
        }
        let begins = |c: char| placeholders.iter().any(|(name, _)| name.starts_with(c));
        let (mut regex, mut texts, mut only_any) = (String::from(r"\A"), vec![String::new()], true);
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(&(name, expression)) = placeholders.iter().find(|(name, _)| rest.starts_with(name)) {
                if expression.contains('<') && regex.contains(expression) {
                    return Err(format!("the pattern {text:?} has `{name}` twice"));
                }
                regex.push_str(expression);
                texts.push(String::new());
                only_any &= (name, expression) == ANY;
                rest = &rest[name.len()..];
                continue;
            }
            let end = rest.find(begins).unwrap_or(rest.len());
            if end == 0 {
                let names: Vec<_> = placeholders.iter().map(|(name, _)| format!("`{name}`")).collect();
                return Err(format!("the pattern {text:?} has {rest:?}, expected one of: {}", names.join(", ")));
            }
            regex.push_str(&regex_lite::escape(&rest[..end]));
            if let Some(last) = texts.last_mut() {
                last.push_str(&rest[..end]);
            }
            rest = &rest[end..];
        }
        regex.push_str(r"\z");
        let prefix = texts.remove(0);
        let (suffix, middle) = match texts.pop() {
            None => (String::new(), Middle::Nothing),
            Some(suffix) if only_any => (suffix, Middle::Texts(texts)),
            Some(suffix) => {
                let regex = Regex::new(&regex).map_err(|error| format!("the pattern {text:?}: {error}"))?;
                (suffix, Middle::Regex(regex))
            }
        };
        Ok(Self { text: text.to_owned(), prefix, suffix, middle })
    }

    /// The pattern as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let Some(mut rest) = self.between(name) else { return false };
        match &self.middle {
            Middle::Nothing => rest.is_empty(),
            // Taking the first occurrence of each text leaves the most to the others.
            Middle::Texts(texts) => texts.iter().all(|text| {
                let found = rest.split_once(&**text);
                rest = found.map_or(rest, |(_, rest)| rest);
                found.is_some()
            }),
            Middle::Regex(regex) => regex.is_match(name),
        }
    }

    /// The numbers in the name; `None` if the name does not match.
    pub(crate) fn indices(&self, name: &str) -> Option<Indices> {
        let Middle::Regex(regex) = &self.middle else {
            return self.matches(name).then(Indices::default);
        };
        if name.len() > LONGEST || self.between(name).is_none() {
            return None;
        }
        let found = regex.captures(name)?;
        let number = |group| match found.name(group) {
            // A number that is too large for an index does not match.
            Some(digits) => digits.as_str().parse().map(Some).ok(),
            None => Some(None),
        };
        Some(Indices { layer: number("layer")?, seq: number("seq")? })
    }

    /// The part of a name between prefix and suffix; `None` if the name does not have both.
    fn between<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(&*self.prefix)?.strip_suffix(&*self.suffix)
    }
}

/// Patterns are equal if they were written equally; only globs are compared.
impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::proptest;

    use super::{Indices, LONGEST, Pattern};

    fn numbers(pattern: &str, name: &str) -> Option<(Option<usize>, Option<usize>)> {
        let Indices { layer, seq } = Pattern::of_name(pattern).expect(pattern).indices(name)?;
        Some((layer, seq))
    }

    #[test]
    fn names_match_as_a_whole() {
        for (pattern, name, expected) in [
            ("model.norm", "model.norm", Some((None, None))),
            ("model.norm", "model_norm", None),
            ("model.norm", "model.norm.x", None),
            ("Qcur-{layer}", "Qcur-12", Some((Some(12), None))),
            ("Qcur-{layer}", "Qcur-", None),
            ("Qcur-{layer}", "Qcur-1x", None),
            ("Qcur-{layer}", "my Qcur-1", None),
            ("Qcur-{layer}", "Qcur-99999999999999999999999", None),
            ("s{seq}.l{layer}", "s3.l12", Some((Some(12), Some(3)))),
            ("node_{n}", "node_7", Some((None, None))),
            ("node_{n}", "node_embedding", None),
            ("norm*", "norm\nof two lines", Some((None, None))),
            ("*-{layer} (view)*", "Qcur-0 (view) (permuted)", Some((Some(0), None))),
            ("*-{layer} (view)*", "my (view)", None),
            ("ffn_sqr(relu)-{layer}", "ffn_sqr(relu)-4", Some((Some(4), None))),
            ("ä{layer}ö", "ä3ö", Some((Some(3), None))),
            ("*", "", Some((None, None))),
            ("a*a", "a", None),
            // Each placeholder takes as much as it can, from the left.
            ("*{layer}", "blk12", Some((Some(2), None))),
            ("{seq}{layer}", "123", Some((Some(3), Some(12)))),
            ("*.{layer}.*", "a.1.b.2.c", Some((Some(2), None))),
            ("*.{layer}*.{seq}x", "a.1.b.2x", Some((Some(1), Some(2)))),
            ("what?{n}", "what?1", Some((None, None))),
            ("what?{n}", "whats1", None),
        ] {
            assert_eq!(numbers(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn globs_match_as_a_whole() {
        for (glob, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("**", "a", true),
            ("?", "", false),
            ("?", "\u{e4}", true),
            ("?", "ab", false),
            ("a?c*", "abcd", true),
            ("a?c*", "abd", false),
            ("*a*", "bab", true),
            ("*ab*b", "ab", false),
            ("*{layer}*[a-c].", "x{layer}y[a-c].", true),
            ("*\u{e4}?", "a\u{e4}\u{f6}", true),
        ] {
            assert_eq!(Pattern::glob(glob).expect(glob).matches(text), expected, "{glob} on {text}");
        }
    }

    /// The meaning of a glob as a reference implementation, short enough to check by reading.
    fn means(glob: &[char], text: &[char]) -> bool {
        match (glob, text) {
            ([], []) => true,
            (['*', rest @ ..], _) => means(rest, text) || (!text.is_empty() && means(glob, &text[1..])),
            (['?', rest @ ..], [_, after @ ..]) => means(rest, after),
            ([one, rest @ ..], [other, after @ ..]) => one == other && means(rest, after),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn globs_match_what_they_mean(glob in "[ab*?\u{e4}]{0,8}", text in "[ab\u{e4}]{0,10}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(Pattern::glob(&glob).expect("a glob").matches(&text), means(&chars(&glob), &chars(&text)));
        }
    }

    #[test]
    fn errors_name_the_mistake() {
        for (pattern, part) in [
            ("", "is empty"),
            ("a{x}", "expected one of: `{layer}`, `{seq}`"),
            ("{layer}.{layer}", "`{layer}` twice"),
            ("a{", "\"{\""),
        ] {
            let error = Pattern::of_name(pattern).expect_err(pattern);
            assert!(error.contains(part), "{pattern}: {error}");
        }
        assert!(Pattern::of_name(&"*{n}".repeat(1100)).expect_err("too long").contains("at most 4096"));
        assert!(Pattern::of_name(&"*{n}".repeat(1000)).is_ok());
        assert!(Pattern::glob(&"a".repeat(LONGEST + 1)).expect_err("too long").contains("at most 4096"));
    }

    /// A matcher that tries every length of each `*` would take years, and so would one whose time grows with the
    /// square of these names.
    #[test]
    fn many_stars_take_linear_time() {
        let long = "a".repeat(64 << 20);
        for (glob, expected) in [
            ("*a*a*a*a*b", false),
            ("*a*a*a*a*b*", false),
            ("*aaaaaaaaaaaaaaaaaaab*", false),
            ("a*a", true),
            ("*a*a*a*a*a*", true),
        ] {
            assert_eq!(Pattern::glob(glob).expect(glob).matches(&long), expected, "{glob}");
            let numbers = Pattern::of_name(glob).expect(glob).indices(&long).map(|found| (found.layer, found.seq));
            assert_eq!(numbers, expected.then_some((None, None)), "{glob}");
        }
        assert!(!Pattern::glob("*a?a*a?a*b*").expect("a glob").matches(&long[..1 << 20]));
        let longest = "1".repeat(LONGEST);
        assert_eq!(numbers("*1*{n}*1*{n}*1*{n}*1*{n}*1*x*", &longest), None);
        assert_eq!(numbers(&("*1".repeat(1000) + "{n}*x*1"), &longest), None);
        assert_eq!(numbers(&("*1".repeat(1000) + "*{n}"), &longest), Some((None, None)));
        assert_eq!(numbers("{n}*", &"1".repeat(LONGEST + 1)), None);
    }
}
