//! The names of records: how they are made and parsed.

use std::fmt::Write;

use super::TraceRecord;

/// Makes the name `t{seq}/blk{layer}/{stage}`, followed by `.{label}` if the label is not empty. Parts that are
/// `None` are left out.
#[must_use]
pub fn record_name(seq: Option<usize>, layer: Option<usize>, stage: &str, label: &str) -> String {
    let mut name = String::with_capacity(stage.len() + label.len() + 16);
    // Writing to a String does not fail.
    if let Some(seq) = seq {
        let _ = write!(name, "t{seq}/");
    }
    if let Some(layer) = layer {
        let _ = write!(name, "blk{layer}/");
    }
    name.push_str(stage);
    if !label.is_empty() {
        name.push('.');
        name.push_str(label);
    }
    name
}

impl TraceRecord {
    /// Splits a name that follows the convention `t{seq}/blk{layer}/{stage}` into sequence index, layer and
    /// stage. The first two parts are optional.
    ///
    /// A suffix after the stage (`.in.x`, `.label`, `#1`) is dropped. Returns `None` for a name that does not
    /// follow the convention. A name with dots but without step and layer does not follow it, because other
    /// programs name their modules that way.
    ///
    /// ```
    /// use bitnet_trace_core::TraceRecord;
    ///
    /// assert_eq!(TraceRecord::parse_name("t0/blk3/q_proj"), Some((Some(0), Some(3), "q_proj")));
    /// assert_eq!(TraceRecord::parse_name("t12/logits#1"), Some((Some(12), None, "logits")));
    /// assert_eq!(TraceRecord::parse_name("blk3/qkv.q"), Some((None, Some(3), "qkv")));
    /// assert_eq!(TraceRecord::parse_name("model/layers/3"), None);
    /// assert_eq!(TraceRecord::parse_name("model.layers.3.q_proj"), None);
    /// ```
    #[must_use]
    pub fn parse_name(name: &str) -> Option<(Option<usize>, Option<usize>, &str)> {
        let mut parts: Vec<&str> = name.split('/').collect();
        let last = parts.pop()?;
        let stage = last.split(['.', '#']).next().filter(|stage| !stage.is_empty())?;
        let (seq, layer) = match parts[..] {
            [] if last.contains('.') => return None,
            [] => (None, None),
            [one] => match (number(one, "t"), number(one, "blk")) {
                (None, None) => return None,
                found => found,
            },
            [seq, layer] => (Some(number(seq, "t")?), Some(number(layer, "blk")?)),
            _ => return None,
        };
        Some((seq, layer, stage))
    }
}

/// The number after a prefix: 12 for `blk12` and `blk`. `None` unless only digits follow, without a sign.
fn number(part: &str, prefix: &str) -> Option<usize> {
    let digits = part.strip_prefix(prefix)?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// The facts that a record's name says and its fields do not.
#[derive(Default)]
pub(crate) struct NameParts<'a> {
    pub(crate) seq: Option<usize>,
    pub(crate) layer: Option<usize>,
    pub(crate) stage: &'a str,
    pub(crate) io: Option<&'a str>,
    pub(crate) output: Option<&'a str>,
    pub(crate) call: usize,
}

/// The parts of a record's name. A record that has a stage needs only the stage. Otherwise all parts come from
/// the name; if the name does not follow the convention, the name without its repeat number is the stage.
pub(crate) fn parts_of<'a>(name: &'a str, stage: Option<&'a str>) -> NameParts<'a> {
    if let Some(stage) = stage {
        return NameParts { stage, ..NameParts::default() };
    }
    let Some((seq, layer, stage)) = TraceRecord::parse_name(name) else {
        let numbered = name.rsplit_once('#').and_then(|(stage, call)| Some((stage, call.parse().ok()?)));
        let (stage, call) = numbered.filter(|(stage, _)| !stage.is_empty()).unwrap_or((name, 0));
        return NameParts { stage, call, ..NameParts::default() };
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let (labels, call) = match last[stage.len()..].rsplit_once('#') {
        Some((labels, call)) => (labels, call.parse().unwrap_or(0)),
        None => (&last[stage.len()..], 0),
    };
    let (io, output) = match (labels.strip_prefix(".in."), labels.strip_prefix(".let.")) {
        (Some(argument), _) => (Some("in"), Some(argument)),
        (None, Some(variable)) => (Some("let"), Some(variable)),
        (None, None) => (None, labels.strip_prefix('.')),
    };
    NameParts { seq, layer, stage, io, output, call }
}

#[cfg(test)]
mod tests {
    use super::{TraceRecord, record_name};

    #[test]
    fn parts_that_are_not_known_are_left_out() {
        assert_eq!(record_name(Some(0), Some(3), "q", ""), "t0/blk3/q");
        assert_eq!(record_name(None, Some(3), "q", "k"), "blk3/q.k");
        assert_eq!(record_name(None, None, "q", ""), "q");
    }

    #[test]
    fn names() {
        let name = TraceRecord::parse_name;
        assert_eq!(name("t0/blk11/q_proj"), Some((Some(0), Some(11), "q_proj")));
        assert_eq!(name("t0/logits"), Some((Some(0), None, "logits")));
        assert_eq!(name("blk3/attn_norm"), Some((None, Some(3), "attn_norm")));
        assert_eq!(name("attn_norm"), Some((None, None, "attn_norm")));
        assert_eq!(name("attn_norm#1"), Some((None, None, "attn_norm")));
        assert_eq!(name("t1/blk2/q_proj.in.x#3"), Some((Some(1), Some(2), "q_proj")));
        let odd = ["", "t0/", "t-1/x", "blk+1/x", "t0/blk1/a/b", "blk1/t0/x", "tx/y", "t0/blk/x"];
        let modules = ["model.layers.0.q_proj", "lm_head.0", "model.norm#1", ".x", "#1"];
        for odd in odd.into_iter().chain(modules) {
            assert_eq!(name(odd), None, "{odd}");
        }
    }
}
