//! What a name looks like: text with numbers and anything in it.

use regex_lite::Regex;

/// Longest pattern, and longest name that one is tried on, in bytes: no program has names near as
/// long, and a file may claim anything.
const LONGEST: usize = 4096;

/// A name with `{layer}`, `{seq}`, `{n}` and `*` in it. The time to match is linear in the name.
#[derive(Debug, Clone)]
pub(crate) struct Pattern {
    text: String,
    /// The text before the first and after the last placeholder: most names fail by these.
    prefix: String,
    suffix: String,
    /// `None` for a pattern without placeholders, whose prefix is all of it.
    regex: Option<Regex>,
}

/// The numbers of a name that fits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Numbers {
    pub(crate) layer: Option<usize>,
    pub(crate) seq: Option<usize>,
}

/// What stands for a part of a name, and its regular expression.
const PLACEHOLDERS: [(&str, &str); 4] =
    [("{layer}", "(?<layer>[0-9]+)"), ("{seq}", "(?<seq>[0-9]+)"), ("{n}", "[0-9]+"), ("*", "(?s:.*)")];

impl Pattern {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the pattern is empty, expected a name".to_owned());
        }
        if text.len() > LONGEST {
            return Err(format!("the pattern has {} bytes, at most {LONGEST} are allowed", text.len()));
        }
        let (mut regex, mut literals) = (String::from(r"\A"), vec![String::new()]);
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((name, expression)) = PLACEHOLDERS.into_iter().find(|(name, _)| rest.starts_with(name)) {
                if expression.contains('<') && regex.contains(expression) {
                    return Err(format!("the pattern {text:?} has `{name}` twice"));
                }
                regex.push_str(expression);
                literals.push(String::new());
                rest = &rest[name.len()..];
                continue;
            }
            let end = rest.find(['{', '*']).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!(
                    "the pattern {text:?} has {rest:?}, expected `{{layer}}`, `{{seq}}`, `{{n}}` or `*`"
                ));
            }
            regex.push_str(&regex_lite::escape(&rest[..end]));
            if let Some(literal) = literals.last_mut() {
                literal.push_str(&rest[..end]);
            }
            rest = &rest[end..];
        }
        regex.push_str(r"\z");
        let suffix = literals.pop().unwrap_or_default();
        let compiled = Regex::new(&regex).map_err(|error| format!("the pattern {text:?}: {error}"));
        let Some(prefix) = literals.into_iter().next() else {
            return Ok(Self { text: text.to_owned(), prefix: suffix, suffix: String::new(), regex: None });
        };
        Ok(Self { text: text.to_owned(), prefix, suffix, regex: Some(compiled?) })
    }

    /// As it was written.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The numbers of a name that fits, `None` for one that does not.
    pub(crate) fn matches(&self, name: &str) -> Option<Numbers> {
        let Some(regex) = &self.regex else {
            return (name == self.prefix).then(Numbers::default);
        };
        if name.len() > LONGEST || !name.starts_with(&self.prefix) || !name.ends_with(&self.suffix) {
            return None;
        }
        let found = regex.captures(name)?;
        let number = |group| match found.name(group) {
            // A number that no index can be is none of ours.
            Some(digits) => digits.as_str().parse().map(Some).ok(),
            None => Some(None),
        };
        Some(Numbers { layer: number("layer")?, seq: number("seq")? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LONGEST, Numbers, Pattern};

    fn numbers(pattern: &str, name: &str) -> Option<(Option<usize>, Option<usize>)> {
        let Numbers { layer, seq } = Pattern::parse(pattern).expect(pattern).matches(name)?;
        Some((layer, seq))
    }

    #[test]
    fn names_fit_as_a_whole() {
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
        ] {
            assert_eq!(numbers(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (pattern, part) in
            [("", "is empty"), ("a{x}", "expected `{layer}`"), ("{layer}.{layer}", "`{layer}` twice"), ("a{", "\"{\"")]
        {
            let error = Pattern::parse(pattern).expect_err(pattern);
            assert!(error.contains(part), "{pattern}: {error}");
        }
        assert!(Pattern::parse(&"*{n}".repeat(1100)).expect_err("too long").contains("at most 4096"));
        assert!(Pattern::parse(&"*{n}".repeat(1000)).is_ok());
    }

    /// Tried place by place for each `*`, this takes years.
    #[test]
    fn many_stars_take_linear_time() {
        let start = Instant::now();
        let name = "ab".repeat(LONGEST / 2);
        assert_eq!(numbers("*a*a*a*a*a*a*a*a*a*a*c*b", &name), None);
        let longer = "a".repeat(64 << 20);
        assert_eq!(numbers("* (*)", &longer), None);
        assert_eq!(numbers("a*a", &longer), None);
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    }
}
