//! Maps the record names of other programs to steps, layers and stages, and says how their tensors are made comparable.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_core::de::{self, Deserialize, Deserializer, EnumAccess, VariantAccess, Visitor};

use crate::error::Error;
use crate::record::pattern::Pattern;
use crate::serial::impl_serde;

use super::measure::Step;
use super::presets::PRESETS;
use super::rules;

/// Rules that map the record names of other programs to the stages of this library.
///
/// The rules come from a TOML file and are applied to both sides. The first rule that matches a record applies. A
/// record that no rule matches keeps its own name. A rule whose `from` names a local (`attn.let.q`) makes the record what
/// a function returns, so that it is compared with one. A record that a rule leaves out (`ignore`, `optional`) is still
/// compared if the other side has a record of that stage.
///
/// ```
/// # use bitnet_trace_core::compare::NameMap;
/// let map: NameMap = r#"
///     [[map]]
///     from = "Qcur-{layer}"      # `{layer}`, `{seq}`, `{n}`: numbers; `*`: anything
///     of = 3                     # only if the name occurs three times in a pass; without `of`: any number of times
///     call = 2                   # only the third of these records, counted from 0; without `call`: all of them
///     to = "q_rope"              # our stage
///     transpose = [1, 2]         # exchange these two dimensions, numbered as recorded
///     flatten = [2, 3]           # then make one dimension of these two and all between them
///
///     [[map]]
///     from = "wqkv-{layer}"
///     to = "k_proj"              # one rule for each part of a fused tensor
///     slice = { dim = -1, start = 2560, end = 3200 }
///
///     [[map]]
///     from = "kq_soft_max-{layer}"
///     to = "attn_scores_softmax"
///     trim = -1                  # cut this dimension to the length of the other side; what is cut must be 0
///
///     [[map]]
///     from = "ffn_silu-{layer}"
///     beside = "ffn_gate_par-{n}"  # only if the trace has this name too (with `{layer}`: in the same layer)
///     to = "gate_act"
///     optional = true            # leave the record out unless the other side has the stage
///
///     [[map]]
///     from = "norm-{layer}"
///     ignore = true              # leave the record out: this library has no such stage
/// "#.parse().unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct NameMap {
    rules: Vec<NameRule>,
}

#[derive(Debug, Clone)]
pub(crate) struct NameRule {
    pub(crate) from: Pattern,
    /// The rule applies only to this one of the records of a name in a pass, counted from 0.
    pub(crate) call: Option<usize>,
    /// The rule applies only if the name occurs this often in a pass.
    pub(crate) of: Option<usize>,
    pub(crate) to: RuleTarget,
    /// Whether the layer is that of the record before it in execution order.
    pub(crate) layer_before: bool,
    /// The rule applies only if the side has all these names.
    pub(crate) beside: Vec<Pattern>,
    /// The rule applies only if the side has none of these names.
    pub(crate) without: Vec<Pattern>,
    pub(crate) steps: Arc<[Step]>,
}

/// What a rule makes of a record.
#[derive(Debug, Clone)]
pub(crate) enum RuleTarget {
    /// A record of this stage.
    Stage(String),
    /// Left out unless the other side has the stage.
    Optional(String),
    /// Left out unless the other side has the record's own name.
    Ignored,
}

impl NameRule {
    /// Whether the rule takes a slice. Only slices let several rules apply to one record.
    pub(crate) fn is_slice(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Slice { .. }))
    }
}

struct MapFile {
    /// The texts that `{base}` stands for. A rule with `{base}` becomes one rule for each of them.
    base: Vec<String>,
    map: Vec<toml::Spanned<WrittenNameRule>>,
}

impl_serde! { Deserialize for MapFile, deny_unknown_fields { base [default], map [default] } }

#[derive(Clone)]
struct WrittenNameRule {
    from: String,
    call: Option<usize>,
    of: Option<usize>,
    beside: Names,
    without: Names,
    to: Option<String>,
    optional: bool,
    ignore: bool,
    layer: Option<Layer>,
    reshape: Option<Vec<usize>>,
    transpose: Option<[i64; 2]>,
    permute: Option<Vec<usize>>,
    flatten: Option<[i64; 2]>,
    slice: Option<Slice>,
    trim: Option<i64>,
}

impl_serde! {
    Deserialize for WrittenNameRule, deny_unknown_fields, expecting = "a table with the keys of a rule" {
        from, call [default], of [default], beside [default], without [default], to [default], optional [default],
        ignore [default], layer [default], reshape [default], transpose [default], permute [default],
        flatten [default], slice [default], trim [default],
    }
}

#[derive(Clone)]
enum Names {
    One(String),
    Several(Vec<String>),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("expected a name or a list of names");
        match toml::Value::deserialize(deserializer)? {
            toml::Value::String(name) => Ok(Self::One(name)),
            names => Ok(Self::Several(names.try_into().map_err(|_| wrong())?)),
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[derive(Clone)]
enum Layer {
    Before,
}

impl Layer {
    const NAMES: &[&str] = &["before"];
}

impl<'de> Deserialize<'de> for Layer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_enum("Layer", Self::NAMES, LayerVisitor)
    }
}

struct LayerVisitor;

impl<'de> Visitor<'de> for LayerVisitor {
    type Value = Layer;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("enum Layer")
    }

    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Layer, A::Error> {
        let (name, content) = access.variant::<String>()?;
        match name.as_str() {
            "before" => content.unit_variant().map(|()| Layer::Before),
            other => Err(de::Error::unknown_variant(other, Layer::NAMES)),
        }
    }
}

#[derive(Clone)]
struct Slice {
    dim: i64,
    start: usize,
    end: usize,
}

impl_serde! { Deserialize for Slice, deny_unknown_fields { dim, start, end } }

impl NameMap {
    /// The preset of this name: `hf` (modules of Hugging Face transformers), `llama.cpp` (graph nodes), or
    /// `candle-transformers/` and the name of a model's file, as in `candle-transformers/qwen2` (locals and functions).
    /// `None` if there is no such preset; [`presets`](Self::presets) lists them.
    #[must_use]
    pub fn preset(name: &str) -> Option<Self> {
        let (_, text) = PRESETS.iter().find(|(known, _)| *known == name)?;
        text.parse().ok()
    }

    /// The names of all presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not a map file; the error names line and column.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        rules::open(path.as_ref())
    }

    /// These rules, followed by the rules of another map. To compare two other programs, give the maps of both.
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

    pub(crate) fn rules(&self) -> &[NameRule] {
        &self.rules
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

/// The most rules that a file may have. A rule with `{base}` counts once for each text of `base`.
const MOST_RULES: usize = 1 << 14;

impl std::str::FromStr for NameMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file: MapFile = rules::parse(text)?;
        let mut count = 0;
        let rules_of = |written| {
            let written = with_base(written, &file.base);
            count += written.len();
            if count > MOST_RULES {
                return Err(format!("the file has more than {MOST_RULES} rules"));
            }
            written.into_iter().map(rule).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self { rules: rules::each(text, file.map, rules_of)? })
    }
}

/// Replaces a rule with `{base}` by one rule for each text that it stands for.
fn with_base(written: WrittenNameRule, bases: &[String]) -> Vec<WrittenNameRule> {
    const BASE: &str = "{base}";
    let names = [written.beside.all(), written.without.all(), std::slice::from_ref(&written.from)];
    if bases.is_empty() || !names.iter().copied().flatten().any(|name| name.contains(BASE)) {
        return vec![written];
    }
    let with = |base: &String| {
        let of = |name: &String| name.replace(BASE, base);
        let of_all = |names: &Names| Names::Several(names.all().iter().map(of).collect());
        let (beside, without) = (of_all(&written.beside), of_all(&written.without));
        WrittenNameRule { from: of(&written.from), beside, without, ..written.clone() }
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

fn rule(written: WrittenNameRule) -> Result<NameRule, String> {
    let WrittenNameRule { from, call, of, beside, without, to, optional, ignore, layer, .. } = written;
    let WrittenNameRule { reshape, transpose, permute, flatten, slice, trim, .. } = written;
    let to = match (to, ignore) {
        (Some(stage), false) if optional => RuleTarget::Optional(stage),
        (Some(stage), false) => RuleTarget::Stage(stage),
        (None, true) if !optional => RuleTarget::Ignored,
        _ => return Err("expected either `to = \"stage\"` or `ignore = true`; `optional` goes with `to`".to_owned()),
    };
    let steps = [
        reshape.map(Step::Reshape),
        transpose.map(|[a, b]| Step::Transpose(a, b)),
        permute.map(Step::Permute),
        flatten.map(|[first, last]| Step::Flatten(first, last)),
        slice.map(|Slice { dim, start, end }| Step::Slice { dim, start, end }),
        trim.map(Step::Trim),
    ];
    let patterns = |key: &str, names: &Names| {
        let parsed = names.all().iter().map(|name| Pattern::of_name(name));
        parsed.collect::<Result<Vec<_>, _>>().map_err(|reason| format!("`{key}`: {reason}"))
    };
    Ok(NameRule {
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
