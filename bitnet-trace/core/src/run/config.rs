//! The settings of a session, which have the same syntax in environment variables and in the builder.

use std::fmt;

use crate::error::Error;
use crate::record::filter::{self, Filter};
use crate::record::layout::digits;

/// The variables in which launchers (torchrun, Open MPI, Slurm) put the rank of a process, in the order in which they
/// are read.
const RANKS: [&str; 3] = ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"];

/// Which records are written, and how.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    pub(crate) format: Format,
    pub(crate) filter: Filter,
    pub(crate) capture: Capture,
    /// Which records are printed on standard error; `None` for no record.
    pub(crate) print: Option<Filter>,
    /// Whether to abort at the first failure.
    pub(crate) strict: bool,
}

/// The format of the records in the directory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// One file per record.
    #[default]
    Files,
    /// One line per record in one file.
    Jsonl,
}

/// What records hold besides hash and statistics: each part for the records that its filter accepts, `None` for no
/// record.
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

/// The rank of this process among several; `None` if no launcher set one.
pub(crate) fn rank() -> Option<u64> {
    RANKS.iter().find_map(|name| digits(&std::env::var(name).ok()?))
}

/// Parses a filter. `name` is the variable or builder method that gave it, for errors.
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
    /// Parses `none` or a comma list of `sketch`, `rows`, `values`, each with or without a filter in parentheses.
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
            let part = match word {
                "sketch" => &mut capture.sketch,
                "rows" => &mut capture.rows,
                "values" => &mut capture.values,
                _ => return Err(setting(name, text, Some(format!("unknown item `{word}`")), EXPECTED)),
            };
            if part.is_some() {
                return Err(setting(name, text, Some(format!("`{word}` is given twice")), EXPECTED));
            }
            *part = Some(parse_filter(name, filter)?);
        }
        Ok(capture)
    }
}

/// Splits the text at the commas outside parentheses.
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

/// The text that parses to this value.
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

pub(crate) fn setting(name: &'static str, found: &str, reason: Option<String>, expected: &'static str) -> Error {
    Error::Setting { setting: name, found: found.to_owned(), reason, expected }
}

#[cfg(test)]
mod tests {
    use super::{Capture, Format};

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
}
