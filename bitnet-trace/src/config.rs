//! The settings of a session: from the environment or from a builder, the same words in both.

use std::fmt;
use std::path::PathBuf;
use std::sync::Once;

use crate::error::Error;
use crate::filter::{self, Filter};
use crate::losses::warn;
use crate::nearest::nearest;
use crate::paths::digits;

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

/// Where a launcher says which of several processes this is, in the order in which they are asked.
const RANKS: [&str; 3] = ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"];

/// What is recorded, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) format: Format,
    pub(crate) filter: Filter,
    pub(crate) capture: Capture,
    /// Records to print on standard error.
    pub(crate) print: Option<Filter>,
    /// Abort at the first failure.
    pub(crate) strict: bool,
}

/// How records lie in the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// One file each.
    #[default]
    Files,
    /// One line each in one file.
    Jsonl,
}

/// What is kept beside hash and statistics, each for the records that its filter takes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Capture {
    pub(crate) sketch: Option<Filter>,
    pub(crate) rows: Option<Filter>,
    pub(crate) values: Option<Filter>,
}

impl Default for Capture {
    fn default() -> Self {
        Self { sketch: Some(Filter::default()), rows: None, values: None }
    }
}

impl Config {
    /// Reads every variable but the directory. A variable that is empty is as one that is not set.
    pub(crate) fn from_environment() -> Result<Self, Error> {
        let mut config = Self::default();
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

/// Which of several processes this is; `None` where no launcher says so.
pub(crate) fn rank() -> Option<u64> {
    RANKS.iter().find_map(|name| digits(&std::env::var(name).ok()?))
}

/// A filter, named in errors by the variable or method it was given to.
pub(crate) fn parse_filter(name: &'static str, text: &str) -> Result<Filter, Error> {
    Filter::parse(text).map_err(|reason| setting(name, text, Some(reason), filter::SYNTAX))
}

impl Format {
    pub(crate) fn parse(name: &'static str, text: &str) -> Result<Self, Error> {
        match text {
            "files" => Ok(Self::Files),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(setting(name, text, None, "`files` or `jsonl`")),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Jsonl => "jsonl",
        }
    }
}

impl Capture {
    /// `none`, or a comma list of `sketch`, `rows`, `values`, each with a filter in parentheses or
    /// for all records.
    pub(crate) fn parse(name: &'static str, text: &str) -> Result<Self, Error> {
        const EXPECTED: &str = "`none`, or a comma list of `sketch`, `rows`, `values`, each with or without a filter: `values(stage=q_proj;layer=0)`";
        let mut capture = Self { sketch: None, rows: None, values: None };
        if text.trim() == "none" {
            return Ok(capture);
        }
        for item in items(text) {
            let (word, filter) = match item.split_once('(') {
                None => (item, ""),
                Some((word, rest)) => match rest.strip_suffix(')') {
                    Some(filter) => (word.trim(), filter),
                    None => return Err(setting(name, text, Some(format!("{item:?} has no `)`")), EXPECTED)),
                },
            };
            let place = match word {
                "sketch" => &mut capture.sketch,
                "rows" => &mut capture.rows,
                "values" => &mut capture.values,
                _ => return Err(setting(name, text, Some(format!("{word:?} is not known")), EXPECTED)),
            };
            if place.is_some() {
                return Err(setting(name, text, Some(format!("`{word}` is given twice")), EXPECTED));
            }
            *place = Some(parse_filter(name, filter)?);
        }
        Ok(capture)
    }
}

/// Splits at the commas that stand outside parentheses.
fn items(text: &str) -> Vec<&str> {
    let mut depth = 0usize;
    let separator = |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(separator).map(str::trim).collect()
}

/// As it would be written in the variable.
impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (word, filter) in [("sketch", &self.sketch), ("rows", &self.rows), ("values", &self.values)] {
            let Some(filter) = filter else { continue };
            f.write_str(if first { "" } else { "," })?;
            first = false;
            if *filter == Filter::default() { write!(f, "{word}")? } else { write!(f, "{word}({filter})")? }
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

fn setting(name: &'static str, found: &str, reason: Option<String>, expected: &'static str) -> Error {
    Error::Setting { setting: name, found: found.to_owned(), reason, expected }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{Capture, Format, expand};

    #[test]
    fn captures() {
        for (text, shown) in [
            ("none", "none"),
            ("sketch", "sketch"),
            ("rows, values", "rows,values"),
            ("values(stage=q_proj;layer=0),sketch", "sketch,values(stage=q_proj;layer=0)"),
            ("values(stage=q_proj,layer=0)", "values(stage=q_proj,layer=0)"),
        ] {
            assert_eq!(Capture::parse("x", text).expect(text).to_string(), shown);
        }
        assert_eq!(Capture::default().to_string(), "sketch");
        for text in ["", "sketches", "values(", "values(stage)", "rows,rows", "none,rows"] {
            let message = Capture::parse("BITNET_TRACE_CAPTURE", text).expect_err(text).to_string();
            assert!(message.contains("BITNET_TRACE_CAPTURE") && message.contains("expected"), "{message}");
        }
        assert!(Format::parse("x", "JSONL").is_err());
    }

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
