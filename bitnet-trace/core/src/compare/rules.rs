//! Reads TOML files with lists of tables: tolerances, name maps, and the plans of the command.
//!
//! Public for the command alone: what is here may change in any version.

use std::fmt::Display;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use serde_core::de::DeserializeOwned;
use toml::Spanned;

use crate::error::Error;
pub use crate::record::nearest::unknown;

/// The largest file that is read, in bytes.
const LARGEST: u64 = 1024 * 1024;

/// Reads a file and parses its text. Errors name the file.
///
/// # Errors
///
/// If the file cannot be read, is too large, or its text cannot be parsed.
pub fn open<T: FromStr<Err = String>>(path: &Path) -> Result<T, Error> {
    let mut text = String::new();
    let file = crate::trace::pieces::open(path)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
    let parsed = match text.len() as u64 {
        0..=LARGEST => text.parse(),
        _ => Err(format!("the file is larger than {LARGEST} bytes, the largest size of a file of rules")),
    };
    parsed.map_err(|reason| Error::Settings { path: path.to_owned(), reason })
}

/// Parses the tables of a file. Errors have line and column, and name the allowed keys.
///
/// # Errors
///
/// If the text is not TOML, or does not have the expected keys and types.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let message = plain(error.message());
        error.span().map_or_else(|| message.clone(), |span| located(text, span.start, &message))
    })
}

/// Converts each table into rules. Errors have line and column.
///
/// # Errors
///
/// If a table cannot be converted.
pub fn each<W, R>(
    text: &str,
    written: Vec<Spanned<W>>,
    mut rules_of: impl FnMut(W) -> Result<Vec<R>, String>,
) -> Result<Vec<R>, String> {
    let mut rules = Vec::new();
    for written in written {
        let start = written.span().start;
        rules.append(&mut rules_of(written.into_inner()).map_err(|reason| located(text, start, reason))?);
    }
    Ok(rules)
}

/// `line 3, column 1: reason`, both from 1.
fn located(text: &str, at: usize, reason: impl Display) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("line {line}, column {column}: {reason}")
}

/// Rewrites a message of serde in the terms of a TOML file.
fn plain(message: &str) -> String {
    if let Some(key) = message.strip_prefix("missing field ") {
        return format!("missing key {key}");
    }
    for (begin, what) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        // The allowed names come last, each in backticks. The unknown name may contain anything.
        if let Some((name, allowed)) = message.strip_prefix(begin).and_then(|rest| rest.rsplit_once("`, expected ")) {
            let allowed: Vec<&str> = allowed.split('`').skip(1).step_by(2).collect();
            return unknown(what, name, &allowed);
        }
    }
    message.to_owned()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::{each, parse};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct TestFile {
        rule: Vec<toml::Spanned<TestRule>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct TestRule {
        stage: Option<String>,
        layer: Option<String>,
        limit: Option<Limit>,
        kind: Option<LimitKind>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Limit {
        value: f64,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum LimitKind {
        Absolute,
        Relative,
    }

    /// Messages of serde and toml are rewritten. This test fails if a later version changes them.
    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        let allowed = "stage, layer, limit, kind";
        for (text, expected) in [
            ("[[rule]]\nstag = \"x\"", format!("line 2, column 1: unknown key `stag`, did you mean `stage`? Expected one of: {allowed}")),
            ("[[rule]]\n\n  'a`, expected `b' = 1", format!("line 3, column 3: unknown key `a`, expected `b`, expected one of: {allowed}")),
            ("[[rule]]\nlimit = { vale = 1 }", "line 2, column 11: unknown key `vale`, did you mean `value`? Expected: value".to_owned()),
            ("[[rule]]\nlimit = {}", "line 2, column 9: missing key `value`".to_owned()),
            ("[[rule]]\nkind = \"relativ\"", "line 2, column 8: unknown value `relativ`, did you mean `relative`? Expected one of: absolute, relative".to_owned()),
            ("[[rule]]\nstage = 3", "line 2, column 9: invalid type: integer `3`, expected a string".to_owned()),
            ("[[other]]", "line 1, column 3: unknown key `other`, expected: rule".to_owned()),
            ("rule", "line 1, column".to_owned()),
        ] {
            let error = parse::<TestFile>(text).expect_err(text);
            assert!(error.starts_with(&expected), "{error:?} instead of {expected:?}");
        }
    }

    #[test]
    fn rules_are_made_in_order_and_the_first_error_has_its_place() {
        let text = "[[rule]]\nstage = \"a\"\n[[rule]]\nstage = \"\u{e4}\"\n  [[rule]]\nlayer = \"b\"\n";
        let made = |last: Result<Vec<String>, String>| {
            let file: TestFile = parse(text).expect("rules");
            each(text, file.rule, |rule| rule.stage.map_or_else(|| last.clone(), |stage| Ok(vec![stage; 2])))
        };
        assert_eq!(made(Ok(vec![])).expect("made"), ["a", "a", "\u{e4}", "\u{e4}"]);
        assert_eq!(made(Err("no stage".to_owned())).expect_err("none"), "line 5, column 3: no stage");
    }
}
