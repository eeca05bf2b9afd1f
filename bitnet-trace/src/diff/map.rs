//! Names of other worlds: how a record's name maps to a step, a layer and a stage, and what has to be
//! done to its tensor before it is compared.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::error::Error;

use super::measure::Step;

/// Rules that give the records of other programs the names that this library's records have.
///
/// A TOML file of rules; the first that fits a record decides, a record that none fits keeps its own
/// name. They are applied to both sides.
///
/// ```
/// # use bitnet_trace::NameMap;
/// let map: NameMap = r#"
///     [[map]]
///     from = "Qcur-{layer}"      # `{layer}`, `{seq}`: numbers; `*`: anything
///     call = 2                   # the third record of that name; left out: every one
///     to = "q_rope"              # our stage
///     transpose = [1, 2]         # of the dimensions as recorded
///
///     [[map]]
///     from = "wqkv-{layer}"
///     to = "k_proj"              # one rule for each part of a fused tensor
///     slice = { dim = -1, start = 2560, end = 3200 }
///
///     [[map]]
///     from = "kq_soft_max-{layer}"
///     to = "attn_scores_softmax"
///     trim = -1                  # to the other side's length, after checking that the rest is 0
///
///     [[map]]
///     from = "norm*"
///     ignore = true              # there is no such stage here
/// "#.parse().unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct NameMap {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    from: Pattern,
    call: Option<usize>,
    /// None: not compared.
    to: Option<String>,
    steps: Arc<[Step]>,
}

/// What a rule says of a record.
pub(crate) struct Mapped<'a> {
    pub(crate) stage: &'a str,
    pub(crate) layer: Option<usize>,
    pub(crate) seq: Option<usize>,
    pub(crate) steps: &'a Arc<[Step]>,
    /// The rule names one of several records of the name, which then is the stage's only one.
    pub(crate) alone: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    map: Vec<toml::Spanned<Written>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    from: String,
    call: Option<usize>,
    to: Option<String>,
    #[serde(default)]
    ignore: bool,
    reshape: Option<Vec<usize>>,
    transpose: Option<[i64; 2]>,
    permute: Option<Vec<usize>>,
    slice: Option<Slice>,
    trim: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Slice {
    dim: i64,
    start: usize,
    end: usize,
}

impl NameMap {
    /// A preset: `hf` (modules of Hugging Face transformers) or `llama.cpp` (graph nodes).
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let text = match name {
            "hf" => include_str!("presets/hf.toml"),
            "llama.cpp" => include_str!("presets/llama_cpp.toml"),
            _ => return None,
        };
        text.parse().ok()
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not a map file: with line and column.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        read_text(path)?.parse().map_err(|reason| Error::Settings { path: path.to_owned(), reason })
    }

    /// Every rule that takes the `call`-th record of a name; parts of a fused tensor have one each.
    /// An empty list where the record is not to be compared; none where no rule fits.
    pub(crate) fn apply(&self, name: &str, call: usize) -> Option<Vec<Mapped<'_>>> {
        let mut found = None;
        for rule in &self.rules {
            if rule.call.is_some_and(|wanted| wanted != call) {
                continue;
            }
            let Some((layer, seq)) = rule.from.matches(name) else { continue };
            let Some(stage) = &rule.to else {
                return found.or(Some(Vec::new()));
            };
            let mapped = Mapped { stage, layer, seq, steps: &rule.steps, alone: rule.call.is_some() };
            let mapped_before = found.get_or_insert_with(Vec::new);
            // Only slices of one tensor go to several stages.
            let sliced = |steps: &[Step]| steps.iter().any(|step| matches!(step, Step::Slice { .. }));
            if mapped_before.iter().all(|other: &Mapped<'_>| sliced(other.steps)) {
                mapped_before.push(mapped);
            }
        }
        found
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl std::str::FromStr for NameMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let rules = file.map.into_iter().map(|written| {
            let at = position(text, written.span().start);
            rule(written.into_inner()).map_err(|reason| format!("{at}: {reason}"))
        });
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }
}

fn rule(written: Written) -> Result<Rule, String> {
    let Written { from, call, to, ignore, reshape, transpose, permute, slice, trim } = written;
    if to.is_some() == ignore {
        return Err("expected either `to = \"stage\"` or `ignore = true`".to_owned());
    }
    let steps = [
        reshape.map(Step::Reshape),
        transpose.map(|[a, b]| Step::Transpose(a, b)),
        permute.map(Step::Permute),
        slice.map(|Slice { dim, start, end }| Step::Slice { dim, start, end }),
        trim.map(Step::Trim),
    ];
    Ok(Rule { from: Pattern::parse(&from)?, call, to, steps: steps.into_iter().flatten().collect() })
}

/// A name with `{layer}`, `{seq}` and `*` in it.
#[derive(Debug, Clone)]
struct Pattern(Vec<Part>);

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Layer,
    Seq,
    Anything,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let special = [("{layer}", Part::Layer), ("{seq}", Part::Seq), ("*", Part::Anything)];
            if let Some((name, part)) = special.into_iter().find(|(name, _)| rest.starts_with(name)) {
                parts.push(part);
                rest = &rest[name.len()..];
                continue;
            }
            let end = rest.find(['{', '*']).unwrap_or(rest.len());
            if end == 0 {
                return Err(format!("`from` has {rest:?}, expected `{{layer}}`, `{{seq}}` or `*`"));
            }
            parts.push(Part::Text(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        if parts.is_empty() {
            return Err("`from` is empty, expected a name".to_owned());
        }
        Ok(Self(parts))
    }

    /// Layer and seq of a name that fits.
    fn matches(&self, name: &str) -> Option<(Option<usize>, Option<usize>)> {
        let (mut layer, mut seq) = (None, None);
        fits(&self.0, name, &mut layer, &mut seq).then_some((layer, seq))
    }
}

fn fits(parts: &[Part], text: &str, layer: &mut Option<usize>, seq: &mut Option<usize>) -> bool {
    let Some((first, parts)) = parts.split_first() else { return text.is_empty() };
    match first {
        Part::Text(expected) => text.strip_prefix(expected.as_str()).is_some_and(|rest| fits(parts, rest, layer, seq)),
        Part::Layer | Part::Seq => {
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let Ok(number) = text[..end].parse() else { return false };
            *(if matches!(first, Part::Layer) { &mut *layer } else { &mut *seq }) = Some(number);
            fits(parts, &text[end..], layer, seq)
        }
        // A name is short, and a pattern has few of these.
        Part::Anything => {
            text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(parts, &text[at..], layer, seq))
        }
    }
}

/// Largest settings file that is read.
const LARGEST: u64 = 1024 * 1024;

pub(crate) fn read_text(path: &Path) -> Result<String, Error> {
    use std::io::Read;
    let mut text = String::new();
    let file = crate::pieces::open(path)?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(Error::io("read", path))?;
    if text.len() as u64 > LARGEST {
        return Err(Error::Settings { path: path.to_owned(), reason: format!("larger than {LARGEST} bytes") });
    }
    Ok(text)
}

/// `line 3, column 1`, both from 1.
pub(crate) fn position(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    format!("line {line}, column {column}")
}
