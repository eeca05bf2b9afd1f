//! The filter language of `BITNET_TRACE_FILTER`, which selects records before their tensors are read.

use std::fmt;

use super::nearest::unknown;
use super::pattern::Pattern;

/// A description of the language, for error messages.
pub(crate) const SYNTAX: &str = "`all`, or conditions such as `stage=attn_*,layer=0-3;stage=logits`: `,` means and, `;` means or, `!=` means not; \
     the keys are stage, name, io (in, out, let, weight, grad), layer, seq, request; texts take globs, numbers take ranges or `none`, `|` separates alternatives";

const KEYS: [&str; 6] = ["stage", "name", "io", "layer", "seq", "request"];

/// All values of `io`; a record without the field has `out`.
const IOS: [&str; 5] = ["in", "out", "let", "weight", "grad"];

/// Conditions on a record. The default takes every record.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Filter {
    /// The text that was parsed.
    text: String,
    /// The record must fulfil all conditions of at least one clause. Without clauses every record is accepted.
    clauses: Vec<Vec<Condition>>,
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    test: Test,
    negated: bool,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Text(TextKey, Vec<Pattern>),
    Number(NumberKey, Vec<Numbers>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum TextKey {
    Stage,
    Name,
    Io,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum NumberKey {
    Layer,
    Seq,
    Request,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Numbers {
    /// `none`: the record has no such number.
    None,
    /// The numbers from the first to the last, both included.
    Range(u64, u64),
}

impl Numbers {
    /// Parses `3`, `0-3` or `none`. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "none" {
            return Ok(Self::None);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self::Range(first, last)),
            (Ok(_), Ok(_)) => Err(format!("{text:?} ends before it begins")),
            _ => Err(format!("{text:?} is not a number or a range")),
        }
    }

    pub(crate) fn holds(self, number: Option<u64>) -> bool {
        match (self, number) {
            (Self::None, None) => true,
            (Self::Range(first, last), Some(number)) => (first..=last).contains(&number),
            _ => false,
        }
    }
}

/// The facts about a record that are known before its tensor is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) stage: Option<&'a str>,
    pub(crate) io: &'a str,
    /// `None` if only the call site is known yet.
    pub(crate) rest: Option<Rest<'a>>,
}

/// The facts about a record that change from call to call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rest<'a> {
    pub(crate) name: &'a str,
    pub(crate) layer: Option<usize>,
    pub(crate) seq: Option<usize>,
    pub(crate) request: Option<u64>,
}

impl Filter {
    /// Parses a filter. An empty text and `all` accept every record. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed == "all" {
            return Ok(Self::default());
        }
        let clause = |clause: &str| clause.split(',').map(condition).collect::<Result<Vec<_>, _>>();
        let clauses = trimmed.split(';').map(clause).collect::<Result<_, _>>()?;
        Ok(Self { text: trimmed.to_owned(), clauses })
    }

    /// Whether the filter accepts the record; `None` if that depends on facts that are not known yet.
    pub(crate) fn accepts(&self, subject: &Subject<'_>) -> Option<bool> {
        if self.clauses.is_empty() {
            return Some(true);
        }
        any(self.clauses.iter().map(|clause| {
            // All conditions hold unless one fails.
            any(clause.iter().map(|condition| condition.holds(subject).map(|holds| !holds))).map(|fails| !fails)
        }))
    }
}

/// True if any verdict is true, false if all are false, otherwise `None`.
fn any(mut verdicts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut unknown = false;
    let found = verdicts.any(|verdict| {
        unknown |= verdict.is_none();
        verdict == Some(true)
    });
    if found { Some(true) } else { (!unknown).then_some(false) }
}

impl Condition {
    fn holds(&self, subject: &Subject<'_>) -> Option<bool> {
        let matches = match &self.test {
            Test::Text(key, globs) => {
                let text = match key {
                    TextKey::Stage => subject.stage.unwrap_or(""),
                    TextKey::Io => subject.io,
                    TextKey::Name => subject.rest?.name,
                };
                globs.iter().any(|glob| glob.matches(text))
            }
            Test::Number(key, alternatives) => {
                let rest = subject.rest?;
                let number = match key {
                    NumberKey::Layer => rest.layer.map(|layer| layer as u64),
                    NumberKey::Seq => rest.seq.map(|seq| seq as u64),
                    NumberKey::Request => rest.request,
                };
                alternatives.iter().any(|numbers| numbers.holds(number))
            }
        };
        Some(matches != self.negated)
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let text = text.trim();
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("{text:?} has no `=`"));
    };
    let (key, negated) = match key.strip_suffix('!') {
        Some(key) => (key.trim(), true),
        None => (key.trim(), false),
    };
    let value = value.trim();
    if value.is_empty() {
        return Err(format!("{text:?} has no value"));
    }
    let all_texts = |key| {
        let alternatives = value.split('|').map(|glob| Pattern::glob(glob.trim()));
        Ok::<_, String>(Test::Text(key, alternatives.collect::<Result<_, _>>()?))
    };
    let all_numbers = |key| {
        let alternatives = value.split('|').map(Numbers::parse);
        Ok::<_, String>(Test::Number(key, alternatives.collect::<Result<_, _>>()?))
    };
    let condition = match key {
        "stage" => all_texts(TextKey::Stage)?,
        "name" => all_texts(TextKey::Name)?,
        "io" => {
            let wanted = all_texts(TextKey::Io)?;
            if let Test::Text(_, globs) = &wanted
                && let Some(glob) = globs.iter().find(|glob| !IOS.iter().any(|io| glob.matches(io)))
            {
                return Err(unknown("io", glob.text(), &IOS));
            }
            wanted
        }
        "layer" => all_numbers(NumberKey::Layer)?,
        "seq" => all_numbers(NumberKey::Seq)?,
        "request" => all_numbers(NumberKey::Request)?,
        _ => return Err(unknown("key", key, &KEYS)),
    };
    Ok(Condition { test: condition, negated })
}

/// The text that was parsed; `all` if the filter accepts every record.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.clauses.is_empty() { "all" } else { &self.text })
    }
}

#[cfg(test)]
mod tests {
    use super::{Filter, Rest, Subject};

    fn verdict(filter: &str, stage: &str, layer: Option<usize>, seq: usize) -> Option<bool> {
        let rest = Rest { name: "t1/blk2/x", layer, seq: Some(seq), request: None };
        let subject = Subject { stage: Some(stage), io: "out", rest: Some(rest) };
        Filter::parse(filter).expect("a filter").accepts(&subject)
    }

    #[test]
    fn conditions() {
        for (filter, stage, layer, seq, expected) in [
            ("", "x", None, 0, true),
            ("all", "x", None, 0, true),
            ("stage=attn_*", "attn_norm", None, 0, true),
            ("stage=attn_*", "ffn_norm", None, 0, false),
            ("stage=?_proj", "q_proj", None, 0, true),
            ("stage=?_proj", "up_proj", None, 0, false),
            ("stage=q_proj|k_proj", "k_proj", None, 0, true),
            ("stage=attn_*,layer=0-3", "attn_norm", Some(3), 0, true),
            ("stage=attn_*,layer=0-3", "attn_norm", Some(4), 0, false),
            ("stage=attn_*,layer=0-3;stage=logits", "logits", None, 0, true),
            ("layer=0|2", "x", Some(2), 0, true),
            ("layer=0|2", "x", Some(1), 0, false),
            ("layer=0|5-7", "x", Some(6), 0, true),
            ("layer=none", "x", None, 0, true),
            ("layer=none", "x", Some(0), 0, false),
            ("layer!=0", "x", None, 0, true),
            ("layer!=0", "x", Some(0), 0, false),
            (" stage != logits , seq = 1 ", "x", None, 1, true),
            ("io=out", "x", None, 0, true),
            ("io=in", "x", None, 0, false),
            ("io=o*|weight", "x", None, 0, true),
            ("name=t1/*", "x", None, 0, true),
            ("request=0-9", "x", None, 0, false),
        ] {
            assert_eq!(verdict(filter, stage, layer, seq), Some(expected), "{filter} on {stage} {layer:?} {seq}");
        }
    }

    #[test]
    fn a_site_alone_decides_where_it_can() {
        let decide = |filter: &str, stage| {
            Filter::parse(filter).expect("a filter").accepts(&Subject { stage: Some(stage), io: "out", rest: None })
        };
        assert_eq!(decide("stage=q_*", "q_proj"), Some(true));
        assert_eq!(decide("stage=q_*,layer=1", "k_proj"), Some(false));
        assert_eq!(decide("stage=q_*,layer=1", "q_proj"), None);
        assert_eq!(decide("stage=q_*;layer=1", "q_proj"), Some(true));
        assert_eq!(decide("stage!=q_*;layer=1", "q_proj"), None);
    }

    #[test]
    fn errors_name_the_mistake() {
        for (filter, part) in [
            ("stage", "\"stage\" has no `=`"),
            ("stage=", "has no value"),
            ("stag=x", "unknown key `stag`, did you mean `stage`? Expected one of: stage, name, io"),
            ("zzz=x", "unknown key `zzz`, expected one of: stage, name, io"),
            ("io=input", "unknown io `input`, did you mean `in`? Expected one of: in, out, let, weight, grad"),
            ("io=in|x*", "unknown io `x*`"),
            ("layer=one", "\"one\" is not a number"),
            ("layer=3-1", "ends before it begins"),
            ("stage=x,", "has no `=`"),
            (";", "has no `=`"),
        ] {
            let error = Filter::parse(filter).expect_err(filter);
            assert!(error.contains(part), "{error}");
        }
    }
}
