//! The tokens of another run, from what it annotated in its `run.json`. It is plain JSON, so that a build without the
//! feature `trace` reads it too.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bitnet_models::Error as ModelError;
use serde_json::Value;

/// The file of a trace directory that says what the run was.
const MANIFEST: &str = "run.json";

/// The annotation with the tokens that a run generated.
const GENERATED: &str = "generated_tokens";

/// Annotations with the tokens that a run was given, the first of which counts.
const GIVEN: [&str; 3] = ["prompt_tokens", "tokens", "token_ids"];

/// The most bytes of a `run.json` that are read, as by the reader of traces.
const LARGEST: u64 = 64 << 20;

/// The largest number of tokens that a message shows.
const SHOWN: usize = 12;

/// Another run, whose tokens are decoded.
pub(crate) struct Reference {
    /// Its `run.json`.
    pub(crate) path: PathBuf,
    /// The tokens that it generated; one or more.
    pub(crate) tokens: Vec<u32>,
    /// The tokens that it was given, under the name of the annotation; `None` if it names none.
    prompt: Option<(&'static str, Vec<u32>)>,
}

/// Why the tokens of another run cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForceError {
    #[error("--force: cannot read {}; expected a trace directory", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("--force: {}: not JSON", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("--force: {}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
    #[error("--force: {}: `{GENERATED}`", path.display())]
    Decode { path: PathBuf, source: Box<ModelError> },
}

impl Reference {
    /// Reads the tokens of a trace, which is a directory or a `.jsonl` file in one.
    pub(crate) fn open(trace: &Path) -> Result<Self, ForceError> {
        let directory = if trace.is_file() { trace.parent().unwrap_or(Path::new("")) } else { trace };
        let path = directory.join(MANIFEST);
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(LARGEST).read_to_end(&mut text));
        read.map_err(|source| ForceError::Read { path: path.clone(), source })?;
        let json: Value =
            serde_json::from_slice(&text).map_err(|source| ForceError::Json { path: path.clone(), source })?;
        let annotations = &json["annotations"];
        match tokens_and_prompt(annotations) {
            Ok((tokens, prompt)) => Ok(Self { path, tokens, prompt }),
            Err(reason) => Err(ForceError::Content { path, reason }),
        }
    }

    /// Refuses a prompt of other tokens: after it, no step would be comparable. A run that does not name its prompt
    /// is not checked.
    pub(crate) fn check_prompt(&self, prompt: &[u32]) -> Result<(), ForceError> {
        let Some((name, expected)) = &self.prompt else { return Ok(()) };
        let length = expected.len().max(prompt.len());
        let Some(at) = (0..length).find(|index| expected.get(*index) != prompt.get(*index)) else { return Ok(()) };
        Err(ForceError::Content {
            path: self.path.clone(),
            reason: format!(
                "that run had another prompt: its `{name}` are {}, those of this run are {}; they differ from index {at}",
                shown(expected),
                shown(prompt)
            ),
        })
    }

    /// Says where a token came from that the model does not know.
    pub(crate) fn explain(&self, error: ModelError) -> Box<dyn std::error::Error> {
        match error {
            ModelError::TokenOutOfRange { id, .. } if self.tokens.contains(&id) => {
                Box::new(ForceError::Decode { path: self.path.clone(), source: Box::new(error) })
            }
            error => Box::new(error),
        }
    }
}

/// The tokens that a run generated, and those that it was given under the name of the annotation.
type TokensAndPrompt = (Vec<u32>, Option<(&'static str, Vec<u32>)>);

fn tokens_and_prompt(annotations: &Value) -> Result<TokensAndPrompt, String> {
    let generated = list(annotations, GENERATED)?.filter(|tokens| !tokens.is_empty());
    let Some(generated) = generated else {
        return Err(format!(
            "the run names no tokens that it generated; expected the annotation `{GENERATED}`, a list of ids"
        ));
    };
    for name in GIVEN {
        if let Some(prompt) = list(annotations, name)? {
            return Ok((generated, Some((name, prompt))));
        }
    }
    Ok((generated, None))
}

/// The token ids of an annotation; `None` if it is not there.
fn list(annotations: &Value, name: &str) -> Result<Option<Vec<u32>>, String> {
    match annotations.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => tokens(value).map(Some).map_err(|reason| format!("`{name}`: {reason}")),
    }
}

/// A list of token ids.
fn tokens(value: &Value) -> Result<Vec<u32>, String> {
    let list = value.as_array().ok_or("expected a list of token ids")?;
    let id = |(index, value): (usize, &Value)| {
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| format!("expected a token id at index {index}, found {value}"))
    };
    list.iter().enumerate().map(id).collect()
}

fn shown(tokens: &[u32]) -> String {
    let first: Vec<_> = tokens.iter().take(SHOWN).map(u32::to_string).collect();
    let more = if tokens.len() > SHOWN { ", .." } else { "" };
    format!("[{}{more}]", first.join(", "))
}
