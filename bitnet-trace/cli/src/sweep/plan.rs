//! Reads the plan of a sweep: a TOML file with two commands and the scenarios that both run.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bitnet_trace_core::compare::rules;
use bitnet_trace_core::compare::{DiffOptions, NameMap};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::directory::RESERVED;
use super::template::{Placeholder, Template, Values};
use crate::diff::Wanted;

/// The names of the two sides, in the plan and in the directory of a scenario.
pub(crate) const SIDES: [&str; 2] = ["reference", "trace"];

/// The variable that tells a side where to record.
pub(crate) const DIR: &str = "BITNET_TRACE_DIR";

/// The longest name of a scenario, in bytes: file systems allow 255.
const LONGEST_NAME: usize = 100;

/// A plan that has been checked: every placeholder of every scenario stands for something.
pub(crate) struct Plan {
    /// The directory of the plan. The commands run in it, and the paths of the plan are relative to it.
    pub(crate) directory: PathBuf,
    /// Reference and trace.
    pub(crate) sides: [Side; 2],
    pub(crate) scenarios: Vec<Scenario>,
    /// Whether the trace decodes the tokens of the reference.
    pub(crate) forced: bool,
    pub(crate) options: DiffOptions,
    /// What all results depend on besides their scenario.
    basis: serde_json::Value,
}

/// One of the two programs.
#[derive(Debug)]
pub(crate) struct Side {
    /// The program and its arguments; never empty.
    pub(crate) command: Vec<Template>,
    pub(crate) env: BTreeMap<String, Template>,
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with the keys of a scenario")]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) prompt: Option<String>,
    pub(crate) steps: Option<u64>,
    pub(crate) tokens: Option<Vec<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPlan {
    reference: Spanned<WrittenSide>,
    trace: Spanned<WrittenSide>,
    #[serde(default)]
    scenario: Vec<Spanned<Scenario>>,
    timeout: Option<String>,
    force: Option<Force>,
    #[serde(default)]
    map: Vec<String>,
    tolerance: Option<PathBuf>,
    rel_l2: Option<f64>,
    #[serde(default)]
    only_common: bool,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, expecting = "a table with the keys of a side")]
struct WrittenSide {
    command: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(skip_serializing)] // a result does not depend on it
    timeout: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Force {
    Reference,
}

/// The text of a plan with what was made of it. The files that it names have not been read.
struct ParsedPlan {
    written: WrittenPlan,
    sides: [Side; 2],
    scenarios: Vec<Scenario>,
}

impl Plan {
    /// Reads a plan and the files that it names.
    pub(crate) fn open(path: &Path) -> Result<Self, Box<dyn Error>> {
        let ParsedPlan { written, sides, scenarios } = rules::open(path)?;
        let path = path.canonicalize().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let directory = path.parent().unwrap_or(Path::new("/")).to_owned();
        let tolerance = written.tolerance.as_ref().map(|file| directory.join(file));
        let is_preset = |name: &String| NameMap::preset(name).is_some();
        let in_directory = |name: &String| directory.join(name).to_string_lossy().into_owned();
        let map: Vec<_> =
            written.map.iter().map(|name| if is_preset(name) { name.clone() } else { in_directory(name) }).collect();
        let wanted = Wanted { tolerance: tolerance.as_deref(), rel_l2: written.rel_l2, map: &map };
        let options = wanted.options(["`rel_l2`", "`map`"]).map_err(|error| format!("{}: {error}", path.display()))?;
        let files = tolerance.iter().map(PathBuf::as_path).chain(map.iter().map(Path::new));
        let contents: Vec<_> = files.map(|file| std::fs::read_to_string(file).ok()).collect();
        let basis = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "sides": [written.reference.get_ref(), written.trace.get_ref()],
            "forced": written.force.is_some(),
            "map": written.map,
            "rel_l2": written.rel_l2,
            "only_common": written.only_common,
            "files": contents,
        });
        let options = options.with_only_common(written.only_common);
        Ok(Self { directory, sides, scenarios, forced: written.force.is_some(), options, basis })
    }

    /// A hash of all that the plan says about a scenario. A result with another hash is out of date.
    pub(crate) fn fingerprint(&self, scenario: &Scenario) -> String {
        let all = serde_json::json!([self.basis, scenario]).to_string();
        blake3::hash(all.as_bytes()).to_hex().to_string()
    }
}

impl FromStr for ParsedPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let written: WrittenPlan = rules::parse(text)?;
        if written.scenario.is_empty() {
            return Err("the plan has no scenario, expected at least one `[[scenario]]` table".to_owned());
        }
        if written.tolerance.is_some() && written.rel_l2.is_some() {
            return Err("`tolerance` and `rel_l2` are both given, expected one of them".to_owned());
        }
        let timeout = written.timeout.as_deref().map(duration).transpose()?;
        let of = |side: &Spanned<WrittenSide>| -> Result<Side, String> {
            let mut sides = rules::each(text, vec![side.clone()], |written| Ok(vec![Side::of(written, timeout)?]))?;
            sides.pop().ok_or_else(|| "no side".to_owned())
        };
        let sides = [of(&written.reference)?, of(&written.trace)?];
        if written.force.is_some() && !sides[1].uses(Placeholder::Reference) {
            return Err(
                "`force` is \"reference\", but the command of `[trace]` does not use `{reference}`: it has to \
                        pass the reference's trace on to the program, as in `--force {reference}`"
                    .to_owned(),
            );
        }
        let mut names = BTreeSet::new();
        let scenarios = rules::each(text, written.scenario.clone(), |scenario| {
            check_name(&scenario.name)?;
            // Some file systems do not tell capitals from small letters.
            if !names.insert(scenario.name.to_lowercase()) {
                return Err(format!("a second scenario has the name `{}`", scenario.name));
            }
            for (side, reference) in sides.iter().zip([None, Some(Path::new("reference"))]) {
                side.check(&Values { scenario: &scenario, dir: Path::new("dir"), reference })?;
            }
            Ok(vec![scenario])
        })?;
        Ok(Self { written, sides, scenarios })
    }
}

impl Side {
    fn of(written: WrittenSide, timeout: Option<Duration>) -> Result<Self, String> {
        let command = written.command.iter().map(|text| Template::parse(text)).collect::<Result<Vec<_>, _>>()?;
        if written.command.first().is_none_or(String::is_empty) {
            return Err("`command` has no program, expected a list such as [\"python3\", \"reference.py\"]".to_owned());
        }
        if let Some(name) = written.env.keys().find(|name| name.is_empty() || name.contains(['=', '\0'])) {
            return Err(format!("`env` has the name {name:?}, expected the name of a variable"));
        }
        if written.env.contains_key(DIR) {
            return Err(format!("`env` sets {DIR}; the sweep sets it to the directory of the side, `{{dir}}`"));
        }
        let env = written.env.into_iter().map(|(name, text)| Ok((name, Template::parse(&text)?)));
        let own = written.timeout.as_deref().map(duration).transpose()?;
        Ok(Self { command, env: env.collect::<Result<_, String>>()?, timeout: own.or(timeout) })
    }

    fn templates(&self) -> impl Iterator<Item = &Template> {
        self.command.iter().chain(self.env.values())
    }

    fn uses(&self, placeholder: Placeholder) -> bool {
        self.templates().any(|template| template.uses(placeholder))
    }

    fn check(&self, values: &Values) -> Result<(), String> {
        self.templates().try_for_each(|template| template.fill(values).map(drop))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text)
        .map_err(|error| format!("`timeout` is {text:?}, expected a time such as \"90s\" or \"2m\": {error}"))?;
    if duration.is_zero() { Err(format!("`timeout` is {text:?}, expected more than 0")) } else { Ok(duration) }
}

/// A name is that of a directory, and part of the links of the index.
fn check_name(name: &str) -> Result<(), String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(format!(
            "`name` is {name:?}, expected up to {LONGEST_NAME} letters and digits of ASCII, `-`, `_` and `.`, not first a `.`"
        ));
    }
    if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(format!("`name` is {name:?}, the name of a file of the sweep"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::{ParsedPlan, Plan};

    const SIDES: &str = "[reference]\ncommand = [\"a\"]\n[trace]\ncommand = [\"b\", \"{prompt}\"]\n";
    const SCENARIO: &str = "[[scenario]]\nname = \"sum\"\nprompt = \"1+1=\"\n";

    fn parsed(text: &str) -> Result<ParsedPlan, String> {
        text.parse()
    }

    #[test]
    fn a_side_has_the_timeout_of_the_plan_unless_it_has_its_own() {
        let plan = parsed(&format!("timeout = \"2m\"\n{SIDES}timeout = \"1s\"\n{SCENARIO}")).expect("a plan");
        assert_eq!(plan.sides.map(|side| side.timeout), [Some(Duration::from_secs(120)), Some(Duration::from_secs(1))]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let side = |key: &str| format!("{SIDES}{key}\n{SCENARIO}");
        let scenario = |key: &str| format!("{SIDES}{SCENARIO}{key}\n");
        for (text, part) in [
            (SIDES.to_owned(), "no scenario"),
            (SCENARIO.to_owned(), "missing key `reference`"),
            (side("comand = 1"), "line 5, column 1: unknown key `comand`, did you mean `command`?"),
            (side("timeout = \"2 parsecs\""), "line 3, column 1: `timeout` is \"2 parsecs\", expected a time"),
            (side("timeout = \"0s\""), "expected more than 0"),
            (side("env = { BITNET_TRACE_DIR = \"x\" }"), "the sweep sets it"),
            (side("env = { \"A=B\" = \"x\" }"), "expected the name of a variable"),
            (side("env = { A = \"{promt}\" }"), "line 3, column 1: unknown placeholder `promt`"),
            (
                format!("[reference]\ncommand = []\n[trace]\ncommand = [\"b\"]\n{SCENARIO}"),
                "line 1, column 1: `command` has no",
            ),
            (
                format!("[reference]\ncommand = [\"{{reference}}\"]\n[trace]\ncommand = [\"b\"]\n{SCENARIO}"),
                "only `[trace]`",
            ),
            (scenario("step = 3"), "line 8, column 1: unknown key `step`, did you mean `steps`?"),
            (
                scenario("[[scenario]]\nname = \"SUM\"\nprompt = \"\""),
                "line 8, column 1: a second scenario has the name",
            ),
            (scenario("[[scenario]]\nname = \"b\""), "line 8, column 1: the scenario `b` has no `prompt`"),
            (scenario("[[scenario]]\nname = \"a/../b\"\nprompt = \"\""), "`name` is \"a/../b\", expected"),
            (scenario("[[scenario]]\nname = \"index.html\"\nprompt = \"\""), "a file of the sweep"),
            (format!("force = \"trace\"\n{SIDES}{SCENARIO}"), "unknown value `trace`"),
            (format!("force = \"reference\"\n{SIDES}{SCENARIO}"), "does not use `{reference}`"),
            (format!("rel_l2 = 1.0\ntolerance = \"x\"\n{SIDES}{SCENARIO}"), "both given"),
        ] {
            let error = parsed(&text).err().unwrap_or_else(|| panic!("{text} is accepted"));
            assert!(error.contains(part), "{error:?} instead of {part:?}");
        }
    }

    #[test]
    fn the_fingerprint_changes_with_all_that_a_result_depends_on() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (path, limits) = (directory.path().join("plan.toml"), directory.path().join("limits.toml"));
        let fingerprint = |text: &str, limit: &str| {
            fs::write(&path, text).expect("written");
            fs::write(&limits, format!("[[rule]]\nrel_l2 = {limit}\n")).expect("written");
            let plan = Plan::open(&path).expect("a plan");
            plan.fingerprint(&plan.scenarios[0])
        };
        let plan = format!("tolerance = \"limits.toml\"\n{SIDES}{SCENARIO}");
        let first = fingerprint(&plan, "0.1");
        assert_eq!(
            fingerprint(
                &format!("timeout = \"1m\"\n# a comment\n{plan}[[scenario]]\nname = \"b\"\nprompt=\"\"\n"),
                "0.1"
            ),
            first
        );
        for (text, limit) in [
            (plan.replace("1+1", "1+2"), "0.1"),
            (plan.replace("[\"a\"]", "[\"a\", \"x\"]"), "0.1"),
            (format!("only_common = true\n{plan}"), "0.1"),
            (format!("map = [\"hf\"]\n{plan}"), "0.1"),
            (plan.clone(), "0.2"),
        ] {
            assert_ne!(fingerprint(&text, limit), first, "{text}");
        }
    }

    #[test]
    fn the_paths_of_a_plan_are_relative_to_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("plan.toml");
        for (key, part) in [
            ("tolerance = \"none.toml\"", "none.toml"),
            ("map = [\"none.toml\"]", "none.toml\", expected `hf`"),
            ("rel_l2 = -1.0", "`rel_l2` is -1, expected a number that is not negative"),
        ] {
            fs::write(&path, format!("{key}\n{SIDES}{SCENARIO}")).expect("written");
            let error = Plan::open(&path).err().expect(key).to_string();
            assert!(error.contains(part) && error.contains(&*directory.path().to_string_lossy()), "{error}");
        }
    }
}
