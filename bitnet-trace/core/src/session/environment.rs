//! Reads the settings from the environment variables `BITNET_TRACE_*`.

use std::path::PathBuf;
use std::sync::Once;

use crate::error::Error;
use crate::failing::warn;
use crate::record::nearest::nearest;
use crate::run::config::{Capture, Config, Format, parse_filter, rank, setting};

/// Directory to record into; recording is off if it is empty or not set.
const DIRECTORY: &str = "BITNET_TRACE_DIR";
const FILTER: &str = "BITNET_TRACE_FILTER";
const FORMAT: &str = "BITNET_TRACE_FORMAT";
const CAPTURE: &str = "BITNET_TRACE_CAPTURE";
const PRINT: &str = "BITNET_TRACE_PRINT";
const STRICT: &str = "BITNET_TRACE_STRICT";

/// The names of all variables begin with this.
const PREFIX: &str = "BITNET_TRACE_";
const KNOWN: [&str; 6] = [DIRECTORY, FILTER, FORMAT, CAPTURE, PRINT, STRICT];
/// Variables that later versions will have.
const LATER: [&str; 2] = ["BITNET_TRACE_REFERENCE", "BITNET_TRACE_SUBSTITUTE"];

/// Reads every variable except the directory. An empty variable counts as not set.
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
        Some(other) => Err(setting(STRICT, other, None, "`0` or `1`")),
    }
}

/// Warns once of every variable that has the prefix and is not known: a mistyped name must not be ignored silently.
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

/// The warning for a variable; `None` if it is known or does not have the prefix.
fn unknown(name: &str) -> Option<String> {
    if !name.starts_with(PREFIX) || KNOWN.contains(&name) {
        return None;
    }
    if LATER.contains(&name) {
        return Some(format!("{name} is not supported by this version and is ignored"));
    }
    // Compared without the prefix, which all of them share.
    let nearest = nearest(&name[PREFIX.len()..], &KNOWN.map(|known| &known[PREFIX.len()..]))?;
    let all = KNOWN.join(", ");
    Some(format!("unknown variable {name}, did you mean {PREFIX}{nearest}? It is ignored; the variables are {all}"))
}

/// The value of a variable; `None` if it is not set or empty.
fn variable(name: &'static str) -> Result<Option<String>, Error> {
    let Some(value) = std::env::var_os(name).filter(|value| !value.is_empty()) else { return Ok(None) };
    match value.into_string() {
        Ok(text) => Ok(Some(text)),
        Err(value) => Err(setting(name, &value.to_string_lossy(), None, "text in UTF-8")),
    }
}

/// The directory that `BITNET_TRACE_DIR` names now, with its `%` expanded; `None` if it is not set or empty.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).filter(|directory| !directory.is_empty()).map(|directory| expand(directory.into()))
}

/// Replaces `%p` by the process id, `%r` by the rank (0 if there is none) and `%%` by a percent sign. Any other `%`
/// stays.
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
    fn unknown_variables_are_warned_of() {
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
