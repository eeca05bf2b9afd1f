//! Names of other programs: how a record's name maps to a step, a layer and a stage, and what has to
//! be done to its tensor before it is compared.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use crate::error::Error;
use crate::record::pattern::Pattern;

use super::measure::Step;
use super::rules;

/// Rules that give the records of other programs the names that this library's records have.
///
/// A TOML file of rules; the first that fits a record decides, a record that none fits keeps its own
/// name. They are applied to both sides. A record that a rule leaves out (`ignore`, `optional`) is
/// compared all the same where the other side has a record of that stage.
///
/// ```
/// # use bitnet_trace_core::compare::NameMap;
/// let map: NameMap = r#"
///     [[map]]
///     from = "Qcur-{layer}"      # `{layer}`, `{seq}`, `{n}`: numbers; `*`: anything
///     of = 3                     # of a name that occurs three times in a pass; left out: any number
///     call = 2                   # the third record of it; left out: every one
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
///     from = "ffn_silu-{layer}"
///     beside = "ffn_gate_par-{n}"  # where the trace has this name too (`{layer}`: in the same layer)
///     to = "gate_act"
///     optional = true            # left out unless the other side has the stage
///
///     [[map]]
///     from = "norm-{layer}"
///     ignore = true              # left out, there is no such stage here
/// "#.parse().unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct NameMap {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
pub(crate) struct Rule {
    pub(crate) from: Pattern,
    /// Which of the records of a name in one pass, from 0.
    pub(crate) call: Option<usize>,
    /// How often the name occurs in one pass.
    pub(crate) of: Option<usize>,
    pub(crate) to: Target,
    /// The layer is that of the record before it in execution order.
    pub(crate) layer_before: bool,
    /// Names that the side has all of.
    pub(crate) beside: Vec<Pattern>,
    /// Names that the side has none of.
    pub(crate) without: Vec<Pattern>,
    pub(crate) steps: Arc<[Step]>,
}

/// What becomes of a record.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Stage(String),
    /// Left out unless the other side has the stage.
    Optional(String),
    /// Left out unless the other side has the record's own name.
    Ignored,
}

impl Rule {
    /// Only slices of one tensor go to several stages.
    pub(crate) fn is_slice(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Slice { .. }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// What `{base}` stands for; a rule that has it becomes one rule for each.
    #[serde(default)]
    base: Vec<String>,
    #[serde(default)]
    map: Vec<toml::Spanned<Written>>,
}

#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
struct Written {
    from: String,
    call: Option<usize>,
    of: Option<usize>,
    #[serde(default)]
    beside: Names,
    #[serde(default)]
    without: Names,
    to: Option<String>,
    #[serde(default)]
    optional: bool,
    #[serde(default)]
    ignore: bool,
    layer: Option<Layer>,
    reshape: Option<Vec<usize>>,
    transpose: Option<[i64; 2]>,
    permute: Option<Vec<usize>>,
    slice: Option<Slice>,
    trim: Option<i64>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged, expecting = "expected a name or a list of names")]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl Default for Names {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "lowercase")]
enum Layer {
    Before,
}

#[derive(Deserialize, Clone)]
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
        rules::open(path.as_ref())
    }

    /// These rules, then those of another map: two programs whose traces are compared have one each.
    ///
    /// ```
    /// # use bitnet_trace_core::compare::NameMap;
    /// let map = NameMap::preset("hf").unwrap().and(NameMap::preset("llama.cpp").unwrap());
    /// ```
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.rules.extend(other.rules);
        self
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// Most rules that a file may have, each name of `base` counted.
const MOST_RULES: usize = 1 << 14;

impl std::str::FromStr for NameMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file: File = rules::parse(text)?;
        let mut count = 0;
        let rules_of = |written| {
            let written = with_base(written, &file.base);
            count += written.len();
            if count > MOST_RULES {
                return Err(format!("more than {MOST_RULES} rules"));
            }
            written.into_iter().map(rule).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { rules: rules::each(text, file.map, rules_of)? })
    }
}

/// A rule for each text that `{base}` stands for.
fn with_base(written: Written, bases: &[String]) -> Vec<Written> {
    const BASE: &str = "{base}";
    let names = [written.beside.all(), written.without.all(), std::slice::from_ref(&written.from)];
    if bases.is_empty() || !names.iter().copied().flatten().any(|name| name.contains(BASE)) {
        return vec![written];
    }
    let with = |base: &String| {
        let of = |name: &String| name.replace(BASE, base);
        let of_all = |names: &Names| Names::Several(names.all().iter().map(of).collect());
        let (beside, without) = (of_all(&written.beside), of_all(&written.without));
        Written { from: of(&written.from), beside, without, ..written.clone() }
    };
    bases.iter().take(MOST_RULES + 1).map(with).collect()
}

impl Names {
    fn all(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => names,
        }
    }
}

fn rule(written: Written) -> Result<Rule, String> {
    let Written { from, call, of, beside, without, to, optional, ignore, layer, .. } = written;
    let Written { reshape, transpose, permute, slice, trim, .. } = written;
    let to = match (to, ignore) {
        (Some(stage), false) if optional => Target::Optional(stage),
        (Some(stage), false) => Target::Stage(stage),
        (None, true) if !optional => Target::Ignored,
        _ => return Err("expected either `to = \"stage\"` or `ignore = true`; `optional` goes with `to`".to_owned()),
    };
    let steps = [
        reshape.map(Step::Reshape),
        transpose.map(|[a, b]| Step::Transpose(a, b)),
        permute.map(Step::Permute),
        slice.map(|Slice { dim, start, end }| Step::Slice { dim, start, end }),
        trim.map(Step::Trim),
    ];
    let patterns = |key: &str, names: &Names| {
        let parsed = names.all().iter().map(|name| Pattern::of_name(name));
        parsed.collect::<Result<Vec<_>, _>>().map_err(|reason| format!("`{key}`: {reason}"))
    };
    Ok(Rule {
        from: Pattern::of_name(&from).map_err(|reason| format!("`from`: {reason}"))?,
        call,
        of,
        to,
        layer_before: matches!(layer, Some(Layer::Before)),
        beside: patterns("beside", &beside)?,
        without: patterns("without", &without)?,
        steps: steps.into_iter().flatten().collect(),
    })
}
