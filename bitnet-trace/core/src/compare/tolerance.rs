//! The limits on how much two tensors may differ.

use std::fmt;
use std::path::Path;

use crate::error::Error;
use crate::record::filter::Numbers;
use crate::record::pattern::Pattern;
use crate::serial::impl_serde;

use super::measure::smaller;
use super::rules;
use super::verdict::Difference;

/// The differences that are allowed: a list of rules, of which the first that matches applies, and defaults by type.
///
/// The defaults are relative L2 errors. For `F16` and `BF16` they are the relative tolerances of
/// `torch.testing.assert_close` (1e-3 and 1.6e-2). For `F32` the default is 1e-5 instead of its 1.3e-6, which is meant
/// for a single operation: another order of summation gives about 1e-6 in each stage of a transformer. Integers have to
/// be equal.
///
/// A TOML file:
///
/// ```
/// # use bitnet_trace_core::Tolerance;
/// let tolerance: Tolerance = r#"
///     [[rule]]
///     stage = "attn_*"      # a glob; without `stage`: every stage
///     layer = "0-3|7"       # numbers and ranges; without `layer`, or with "*": every layer
///     rel_l2 = 1e-4         # every limit of the rule has to hold
///     max_abs = 0.01
///     cosine = 0.9999
///
///     [[rule]]
///     rel_l2 = 1e-5
/// "#.parse().unwrap();
/// ```
#[derive(Debug, Clone, Default)]
pub struct Tolerance {
    rules: Vec<ToleranceRule>,
}

/// The limits for a pair. A limit that is `None` is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Limits {
    pub(crate) rel_l2: Option<f64>,
    pub(crate) max_abs: Option<f64>,
    pub(crate) cosine: Option<f64>,
}

#[derive(Debug, Clone)]
struct ToleranceRule {
    stage: Option<Pattern>,
    layer: Option<Vec<Numbers>>,
    limits: Limits,
}

struct ToleranceFile {
    rule: Vec<toml::Spanned<WrittenToleranceRule>>,
}

impl_serde! { Deserialize for ToleranceFile, deny_unknown_fields { rule [default] } }

struct WrittenToleranceRule {
    stage: Option<String>,
    layer: Option<String>,
    rel_l2: Option<f64>,
    max_abs: Option<f64>,
    cosine: Option<f64>,
}

impl_serde! {
    Deserialize for WrittenToleranceRule, deny_unknown_fields, expecting = "a table with the keys of a rule" {
        stage [default], layer [default], rel_l2 [default], max_abs [default], cosine [default],
    }
}

impl Tolerance {
    /// The same limit of the relative L2 error for all records.
    #[must_use]
    pub fn rel_l2(limit: f64) -> Self {
        let limits = Limits { rel_l2: Some(limit), ..Limits::default() };
        Self { rules: vec![ToleranceRule { stage: None, layer: None, limits }] }
    }

    /// Reads a TOML file.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not a tolerance file; the error names line and column.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        rules::open(path.as_ref())
    }

    /// The limits for a pair. `dtype` is the smaller of its two types.
    pub(crate) fn limits(&self, stage: &str, layer: Option<usize>, dtype: &str) -> Limits {
        let fits = |rule: &&ToleranceRule| {
            rule.stage.as_ref().is_none_or(|glob| glob.matches(stage))
                && rule
                    .layer
                    .as_ref()
                    .is_none_or(|ranges| ranges.iter().any(|range| range.holds(layer.map(|n| n as u64))))
        };
        self.rules.iter().find(fits).map_or_else(|| default(dtype), |rule| rule.limits)
    }
}

fn default(dtype: &str) -> Limits {
    let rel_l2 = match dtype {
        "F64" | "F32" => 1e-5,
        "F16" => 1e-3,
        "BF16" => 1.6e-2,
        // Three bits of mantissa: half a unit in the last place is 1/16.
        dtype if dtype.starts_with("F8") => 6.25e-2,
        _ => 0.0,
    };
    Limits { rel_l2: Some(rel_l2), ..Limits::default() }
}

/// The relative L2 error that is usual between two types: the default limit of the smaller one.
pub(crate) fn usual_error(dtypes: [&str; 2]) -> f64 {
    default(smaller(dtypes)).rel_l2.unwrap_or(0.0)
}

/// Whether a difference is within its limits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Held {
    /// Every limit holds.
    Within,
    /// A limit is exceeded, or allows no difference at all.
    Exceeded,
    /// No limit is exceeded, but the number that this limit needs is not known.
    Unknown(&'static str),
}

impl Limits {
    /// Whether a difference of elements that are not equal is within every limit.
    pub(crate) fn hold(&self, difference: &Difference) -> Held {
        // Only equal elements are within a limit of 0.
        if [self.rel_l2, self.max_abs].contains(&Some(0.0)) {
            return if difference.differing == Some(0) { Held::Within } else { Held::Exceeded };
        }
        let at_most = |limit: Option<f64>, found: Option<f64>| Some(found? <= limit?);
        let at_least = |limit: Option<f64>, found: Option<f64>| Some(found? >= limit?);
        let limits = [
            ("rel_l2", self.rel_l2, at_most(self.rel_l2, difference.rel_l2)),
            ("max_abs", self.max_abs, at_most(self.max_abs, difference.max_abs)),
            ("cosine", self.cosine, at_least(self.cosine, difference.cosine)),
        ];
        let given = || limits.iter().filter(|(_, limit, _)| limit.is_some());
        if given().any(|(_, _, held)| *held == Some(false)) {
            return Held::Exceeded;
        }
        given().find(|(_, _, held)| held.is_none()).map_or(Held::Within, |(name, ..)| Held::Unknown(name))
    }

    /// Widens `needed` until limits of the same kinds allow this difference too; `None` if the number for a limit is
    /// not known.
    pub(crate) fn widen(&self, needed: &mut Needed, difference: &Difference) -> Option<()> {
        if self.rel_l2.is_some() {
            let error = difference.rel_l2.filter(|error| error.is_finite())?;
            needed.rel_l2 = Some(needed.rel_l2.unwrap_or(0.0).max(error));
        }
        if self.max_abs.is_some() {
            needed.max_abs = Some(needed.max_abs.unwrap_or(0.0).max(difference.max_abs?));
        }
        if self.cosine.is_some() {
            needed.cosine = Some(needed.cosine.unwrap_or(1.0).min(difference.cosine?));
        }
        Some(())
    }
}

/// The smallest limits, of the kinds that the rules have, with which every compared pair would have matched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct Needed {
    /// The limit of the relative L2 error.
    pub rel_l2: Option<f64>,
    /// The limit of the largest absolute difference.
    pub max_abs: Option<f64>,
    /// The lower limit of the cosine.
    pub cosine: Option<f64>,
}

impl_serde! { Serialize for Needed { rel_l2, max_abs, cosine } }

impl Needed {
    /// The limit of the relative L2 error, 0 if every pair is identical; `None` if there are other limits too.
    pub(crate) fn rel_l2_alone(self) -> Option<f64> {
        let Self { rel_l2, max_abs, cosine } = self;
        (max_abs.is_none() && cosine.is_none()).then_some(rel_l2.unwrap_or(0.0))
    }
}

/// The number with four digits, rounded up.
fn rounded_up(limit: f64) -> String {
    let text = format!("{limit:.3e}");
    if text.parse().is_ok_and(|rounded: f64| rounded >= limit) { text } else { format!("{:.3e}", limit * 1.0005) }
}

/// Written as in a rule: `rel_l2 = 1.2e-3`.
impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [("rel_l2", self.rel_l2), ("max_abs", self.max_abs)];
        let limits = limits.into_iter().filter_map(|(name, limit)| Some(format!("{name} = {}", rounded_up(limit?))));
        // The cosine is a lower limit, so it is rounded down.
        let cosine = self.cosine.map(|cosine| format!("cosine = {:.9}", (cosine * 1e9).floor() / 1e9));
        f.write_str(&limits.chain(cosine).collect::<Vec<_>>().join(", "))
    }
}

impl std::str::FromStr for Tolerance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let file: ToleranceFile = rules::parse(text)?;
        Ok(Self { rules: rules::each(text, file.rule, |written| Ok(vec![rule(written)?]))? })
    }
}

fn rule(written: WrittenToleranceRule) -> Result<ToleranceRule, String> {
    let WrittenToleranceRule { stage, layer, rel_l2, max_abs, cosine } = written;
    for (name, limit) in [("rel_l2", rel_l2), ("max_abs", max_abs)] {
        if limit.is_some_and(|limit| limit.is_nan() || limit < 0.0) {
            return Err(format!("`{name}` is {}, expected a number that is not negative", limit.unwrap_or_default()));
        }
    }
    if cosine.is_some_and(|cosine| !(-1.0..=1.0).contains(&cosine)) {
        return Err(format!("`cosine` is {}, expected a number from -1 to 1", cosine.unwrap_or_default()));
    }
    let limits = Limits { rel_l2, max_abs, cosine };
    if limits == Limits::default() {
        return Err("the rule has no limit, expected at least one of: rel_l2, max_abs, cosine".to_owned());
    }
    // `*` also matches records without a layer.
    let layer = layer.filter(|ranges| ranges.trim() != "*");
    let layer = layer.map(|ranges| ranges.split('|').map(Numbers::parse).collect::<Result<_, _>>()).transpose();
    let layer = layer.map_err(|reason| format!("`layer`: {reason}"))?;
    let stage = stage.map(|glob| Pattern::glob(&glob)).transpose().map_err(|reason| format!("`stage`: {reason}"))?;
    Ok(ToleranceRule { stage, layer, limits })
}
