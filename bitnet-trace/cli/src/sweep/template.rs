//! The arguments and variables of a command, in which placeholders stand for what is known only when a side runs.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use bitnet_trace_core::compare::rules::unknown;

use super::plan::Scenario;

/// A text with placeholders: `--steps={steps}`. `{{` and `}}` are braces.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(String),
    Value(Placeholder),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Name,
    Prompt,
    Steps,
    Tokens,
    Dir,
    Reference,
}

const PLACEHOLDERS: [(&str, Placeholder); 6] = [
    ("name", Placeholder::Name),
    ("prompt", Placeholder::Prompt),
    ("steps", Placeholder::Steps),
    ("tokens", Placeholder::Tokens),
    ("dir", Placeholder::Dir),
    ("reference", Placeholder::Reference),
];

/// What the placeholders of one side of a scenario stand for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) scenario: &'a Scenario,
    /// The directory that the side records into.
    pub(crate) dir: &'a Path,
    /// The directory that the reference recorded into; `None` for the reference itself.
    pub(crate) reference: Option<&'a Path>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            rest = after;
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") else {
                return Err(format!(
                    "{text:?} has a `{brace}` without its partner; write `{brace}{brace}` for a brace"
                ));
            };
            let Some((_, placeholder)) = PLACEHOLDERS.iter().find(|(known, _)| *known == name) else {
                let hint = "write `{{` for a brace";
                return Err(format!("{}; {hint}", unknown("placeholder", name, &PLACEHOLDERS.map(|(name, _)| name))));
            };
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Value(*placeholder));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self(pieces))
    }

    pub(crate) fn uses(&self, placeholder: Placeholder) -> bool {
        self.0.contains(&Piece::Value(placeholder))
    }

    /// The text of a run. The error names a placeholder that stands for nothing there.
    pub(crate) fn fill(&self, values: &Values) -> Result<OsString, String> {
        let mut filled = OsString::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => filled.push(text),
                Piece::Value(placeholder) => filled.push(placeholder.value(values)?),
            }
        }
        Ok(filled)
    }
}

impl Placeholder {
    fn value(self, values: &Values) -> Result<OsString, String> {
        let Scenario { name, prompt, steps, tokens } = values.scenario;
        let missing = |key: &str| format!("the scenario `{name}` has no `{key}`, which a command or variable uses");
        match self {
            Self::Name => Ok(name.into()),
            Self::Prompt => prompt.as_ref().map(Into::into).ok_or_else(|| missing("prompt")),
            Self::Steps => steps.map(|steps| steps.to_string().into()).ok_or_else(|| missing("steps")),
            Self::Tokens => {
                let list = |tokens: &Vec<u64>| tokens.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
                tokens.as_ref().map(|tokens| list(tokens).into()).ok_or_else(|| missing("tokens"))
            }
            Self::Dir => Ok(values.dir.into()),
            Self::Reference => values
                .reference
                .map(|path| OsStr::new(path).to_owned())
                .ok_or_else(|| "`{reference}` is the trace of the reference, so only `[trace]` can use it".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Template, Values};
    use crate::sweep::plan::Scenario;

    fn filled(text: &str, scenario: &Scenario) -> Result<String, String> {
        let values = Values { scenario, dir: Path::new("/out/a/trace"), reference: Some(Path::new("/out/a/ref")) };
        Template::parse(text)?.fill(&values).map(|text| text.into_string().expect("UTF-8"))
    }

    #[test]
    fn placeholders_stand_for_the_values_of_the_scenario() {
        let scenario =
            Scenario { name: "a".into(), prompt: Some("1 {dir} $x".into()), steps: Some(4), tokens: Some(vec![1, 22]) };
        for (text, expected) in [
            ("", ""),
            ("--steps={steps}", "--steps=4"),
            ("{name}:{tokens}", "a:1,22"),
            // What a placeholder stands for is not read again, and no shell reads it.
            ("{prompt}", "1 {dir} $x"),
            ("{dir} {reference}", "/out/a/trace /out/a/ref"),
            ("{{\"n\": {steps}}}", "{\"n\": 4}"),
            ("{{{name}}}", "{a}"),
        ] {
            assert_eq!(filled(text, &scenario).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said() {
        let scenario = Scenario { name: "a".into(), prompt: None, steps: None, tokens: None };
        for (text, part) in [
            ("{promt}", "unknown placeholder `promt`, did you mean `prompt`?"),
            ("{}", "unknown placeholder ``"),
            ("a { b", "has a `{` without its partner"),
            ("a } b", "has a `}` without its partner"),
            ("{prompt}", "the scenario `a` has no `prompt`"),
            ("{steps}", "has no `steps`"),
            ("{tokens}", "has no `tokens`"),
        ] {
            let error = filled(text, &scenario).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
