//! The settings of the environment: `BITNET_TRACE_*`.

use std::path::PathBuf;
use std::sync::Once;

use crate::error::Error;
use crate::failing::warn;
use crate::record::nearest::nearest;
use crate::run::config::{Capture, Config, Format, parse_filter, rank, setting};

/// Non-empty: record into this directory.
const DIRECTORY: &str = "BITNET_TRACE_DIR";
const FILTER: &str = "BITNET_TRACE_FILTER";
const FORMAT: &str = "BITNET_TRACE_FORMAT";
const CAPTURE: &str = "BITNET_TRACE_CAPTURE";
const PRINT: &str = "BITNET_TRACE_PRINT";
const STRICT: &str = "BITNET_TRACE_STRICT";

/// What the names of all variables begin with.
const PREFIX: &str = "BITNET_TRACE_";
const KNOWN: [&str; 6] = [DIRECTORY, FILTER, FORMAT, CAPTURE, PRINT, STRICT];
/// Of later versions.
const LATER: [&str; 2] = ["BITNET_TRACE_REFERENCE", "BITNET_TRACE_SUBSTITUTE"];

/// Reads every variable but the directory. A variable that is empty is as one that is not set.
pub(crate) fn config() -> Result<Config, Error> {
    let mut config = Config::default();
    if let Some(text) = variable(FORMAT)? {
        config.format = Format::parse(FORMAT, &text)?;
    }
    if let Some(text) = variable(FILTER)? {
        config.filter = parse_filter(FILTER, &text)?;
    }
    if let Some(text) = variable(CAPTURE)? {
        config.capture = Capture::parse(CAPTURE, &text)?;
    }
    if let Some(text) = variable(PRINT)? {
        config.print = Some(parse_filter(PRINT, &text)?);
    }
    config.strict = strict()?;
    Ok(config)
}

/// Whether the environment asks to print records.
pub(crate) fn prints() -> bool {
    std::env::var_os(PRINT).is_some_and(|print| !print.is_empty())
}

/// Whether the environment asks to abort at the first failure.
pub(crate) fn strict() -> Result<bool, Error> {
    match variable(STRICT)?.as_deref() {
        None | Some("0") => Ok(false),
        Some("1") => Ok(true),
        Some(other) => Err(setting(STRICT, other, None, "0 or 1")),
    }
}

/// Warns once of every variable that begins as ours do and means nothing: a name that is mistyped must
/// not pass for a setting.
pub(crate) fn warn_of_unknown() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for (name, _) in std::env::vars_os().filter(|(_, value)| !value.is_empty()) {
            let name = name.to_string_lossy();
            if let Some(warning) = unknown(&name) {
                warn(warning);
            }
        }
    });
}

/// What there is to say of a variable's name.
fn unknown(name: &str) -> Option<String> {
    if !name.starts_with(PREFIX) || KNOWN.contains(&name) {
        return None;
    }
    if LATER.contains(&name) {
        return Some(format!("{name} is not supported by this version; it is ignored"));
    }
    // Without the beginning that all share.
    let nearest = nearest(&name[PREFIX.len()..], &KNOWN.map(|known| &known[PREFIX.len()..]))?;
    let all = KNOWN.join(", ");
    Some(format!("unknown variable {name}, did you mean {PREFIX}{nearest}? It is ignored; the variables are {all}"))
}

/// A variable's text; none if it is unset or empty.
fn variable(name: &'static str) -> Result<Option<String>, Error> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.into_string() {
        Ok(text) => Ok(Some(text)),
        Err(value) => Err(setting(name, &value.to_string_lossy(), None, "UTF-8")),
    }
}

/// What `BITNET_TRACE_DIR` says now, its `%` filled in; none if it is unset or empty.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty()).map(|directory| expand(directory.into()))
}

/// `%p` becomes the process id, `%r` the rank, `%%` a percent sign; any other `%` stays.
pub(crate) fn expand(directory: PathBuf) -> PathBuf {
    let Some(text) = directory.to_str().filter(|text| text.contains('%')) else { return directory };
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        expanded.push_str(before);
        let (filled, taken) = match after.as_bytes().first() {
            Some(b'p') => (std::process::id().to_string(), 1),
            Some(b'r') => (rank().unwrap_or(0).to_string(), 1),
            Some(b'%') => ("%".to_owned(), 1),
            _ => ("%".to_owned(), 0),
        };
        expanded.push_str(&filled);
        rest = &after[taken..];
    }
    expanded.push_str(rest);
    expanded.into()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::expand;

    #[test]
    fn variables_that_mean_nothing() {
        for (name, part) in [
            ("BITNET_TRACE_DIRR", "did you mean BITNET_TRACE_DIR?"),
            ("BITNET_TRACE_DIRECTORY", "did you mean BITNET_TRACE_DIR?"),
            ("BITNET_TRACE_FITLER", "did you mean BITNET_TRACE_FILTER?"),
            ("BITNET_TRACE_FORMATS", "did you mean BITNET_TRACE_FORMAT?"),
            ("BITNET_TRACE_REFERENCE", "not supported by this version"),
        ] {
            let warning = super::unknown(name).expect(name);
            assert!(warning.contains(part) && warning.contains(name), "{warning}");
        }
        for name in super::KNOWN.into_iter().chain(["BITNET_TRACED", "PATH"]) {
            assert_eq!(super::unknown(name), None);
        }
    }

    #[test]
    fn percent_signs() {
        let pid = std::process::id();
        for (text, expected) in [
            ("a/b", "a/b".to_owned()),
            ("a%p/%%/%x%", format!("a{pid}/%/%x%")),
            ("%r", "0".to_owned()),
            ("%%p", "%p".to_owned()),
        ] {
            assert_eq!(expand(PathBuf::from(text)), PathBuf::from(expected), "{text}");
        }
    }
}
