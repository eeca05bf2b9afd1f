//! What a checkpoint holds for text: the tokenizer, the chat template, and the tokens that end a text.

use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Checkpoint;
use super::gguf::Metadata;
use crate::bytes::read;
use crate::chat::{ChatTemplate, LARGEST_TEMPLATE};
use crate::error::{Error, Result};
use crate::tokenizer::{Tokenizer, Vocabulary};

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const GENERATION_CONFIG: &str = "generation_config.json";

/// The template that is taken from a list of named ones, as in transformers.
const DEFAULT_TEMPLATE: &str = "default";

impl Checkpoint {
    /// The tokenizer: the vocabulary inside a GGUF, or `tokenizer.json` beside the tensors. The latter takes the place
    /// of a vocabulary of another kind than byte-level BPE.
    ///
    /// # Errors
    ///
    /// If the checkpoint has none, or it is malformed.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let file = self.beside_name(TOKENIZER);
        match (self.vocabulary(), self.beside(TOKENIZER)?) {
            (Some(metadata), None) => self.inside(metadata),
            (Some(metadata), Some(_)) if Vocabulary::is_readable(metadata) => self.inside(metadata),
            (_, Some(json)) => Tokenizer::from_json(&json, file),
            (None, None) => {
                let reason = "the file does not exist; a prompt needs it, token ids (`--tokens`) do not".to_owned();
                Err(Error::Tokenizer { file, reason })
            }
        }
    }

    /// Whether the checkpoint has a tokenizer of a kind that can be read.
    #[must_use]
    pub fn has_tokenizer(&self) -> bool {
        self.vocabulary().is_some_and(Vocabulary::is_readable) || self.beside.has(TOKENIZER)
    }

    /// The chat template: that of a GGUF, or `chat_template.jinja`, or the one in `tokenizer_config.json`.
    ///
    /// # Errors
    ///
    /// If the checkpoint has none, or it is malformed.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        let (source, file) = match self.metadata() {
            Some(metadata) => match metadata.string(Vocabulary::CHAT_TEMPLATE)? {
                Some(template) => (template.to_owned(), metadata.file().to_owned()),
                None => self.template_beside()?,
            },
            None => self.template_beside()?,
        };
        self.chat_template_of(source, file)
    }

    /// A chat template that is not the checkpoint's, with the begin and end token of the checkpoint; `file` names it in
    /// errors.
    ///
    /// # Errors
    ///
    /// If it is not a Jinja template, or `tokenizer_config.json` is malformed.
    pub fn chat_template_of(&self, source: impl Into<String>, file: impl Into<String>) -> Result<ChatTemplate> {
        let (begin, end) = match self.vocabulary() {
            Some(metadata) => Vocabulary::begin_and_end(metadata)?,
            None => self.tokenizer_config()?.tokens(),
        };
        Ok(ChatTemplate::new(source, file)?.with_tokens(begin, end))
    }

    /// The chat template in a file that is not the checkpoint's, with the begin and end token of the checkpoint.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is too large, or as [`chat_template_of`](Self::chat_template_of).
    pub fn chat_template_in(&self, path: impl AsRef<Path>) -> Result<ChatTemplate> {
        let (path, file) = (path.as_ref(), path.as_ref().display().to_string());
        let source = utf8(read(path, LARGEST_TEMPLATE)?, &file)?;
        self.chat_template_of(source, file)
    }

    /// The ids that end a text: those of the configuration, of the `generation_config.json` of a Hugging Face checkpoint,
    /// and of the tokenizer ([`Tokenizer::end_tokens`]).
    ///
    /// # Errors
    ///
    /// If `generation_config.json` is malformed.
    pub fn end_tokens(&self, tokenizer: Option<&Tokenizer>) -> Result<Vec<u32>> {
        let mut ends = self.config.eos_token_ids.clone();
        // A GGUF names its own; what is beside it belongs to another checkpoint.
        if self.metadata().is_none() {
            let generation: Option<Generation> = self.json_beside(GENERATION_CONFIG)?;
            let named = generation.and_then(|generation| generation.eos_token_id).map(Ids::into_vec);
            // As in transformers, an id below 0 ends no text.
            ends.extend(named.unwrap_or_default().into_iter().filter_map(|id| u32::try_from(id).ok()));
        }
        ends.extend(tokenizer.map(Tokenizer::end_tokens).unwrap_or_default());
        ends.sort_unstable();
        ends.dedup();
        Ok(ends)
    }

    /// The metadata of a GGUF that has a vocabulary.
    fn vocabulary(&self) -> Option<&Metadata> {
        self.metadata().filter(|metadata| Vocabulary::is_in(metadata))
    }

    fn inside(&self, metadata: &Metadata) -> Result<Tokenizer> {
        let vocabulary = Vocabulary::from_metadata(metadata)?;
        Tokenizer::from_vocabulary(&vocabulary, self.config.vocab_size, metadata.file().to_owned())
    }

    /// The template in a file beside the tensors, and the name of the file.
    fn template_beside(&self) -> Result<(String, String)> {
        let file = self.beside_name(CHAT_TEMPLATE);
        if let Some(bytes) = self.beside(CHAT_TEMPLATE)? {
            return Ok((utf8(bytes.into_owned(), &file)?, file));
        }
        let file = self.beside_name(TOKENIZER_CONFIG);
        let template = self.tokenizer_config()?.template(&file)?;
        Ok((template, file))
    }

    fn tokenizer_config(&self) -> Result<TokenizerConfig> {
        Ok(self.json_beside(TOKENIZER_CONFIG)?.unwrap_or_default())
    }

    /// Reads a file that may be absent.
    fn json_beside<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(json) = self.beside(name)? else { return Ok(None) };
        let malformed = |error| Error::Format { file: self.beside_name(name), reason: format!("malformed: {error}") };
        serde_json::from_slice(&json).map(Some).map_err(malformed)
    }
}

/// The text of a chat template.
fn utf8(bytes: Vec<u8>, file: &str) -> Result<String> {
    let refused = |_| Error::Chat { file: file.to_owned(), reason: "the chat template is not UTF-8".to_owned() };
    String::from_utf8(bytes).map_err(refused)
}

/// `generation_config.json`.
#[derive(Deserialize)]
struct Generation {
    eos_token_id: Option<Ids>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`eos_token_id`: expected an id or a list of ids")]
enum Ids {
    One(i64),
    Many(Vec<i64>),
}

impl Ids {
    fn into_vec(self) -> Vec<i64> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

/// `tokenizer_config.json`.
#[derive(Default, Deserialize)]
struct TokenizerConfig {
    chat_template: Option<Templates>,
    bos_token: Option<Token>,
    eos_token: Option<Token>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`chat_template`: expected a text, or a list of {\"name\", \"template\"}")]
enum Templates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a token as a text, or as {\"content\"}")]
enum Token {
    Text(String),
    Added { content: String },
}

impl TokenizerConfig {
    fn tokens(&self) -> (Option<String>, Option<String>) {
        let text = |token: &Option<Token>| {
            token.as_ref().map(|token| match token {
                Token::Text(text) | Token::Added { content: text } => text.clone(),
            })
        };
        (text(&self.bos_token), text(&self.eos_token))
    }

    fn template(self, file: &str) -> Result<String> {
        match self.chat_template {
            Some(Templates::One(template)) => Ok(template),
            Some(Templates::Named(templates)) => {
                let names: Vec<_> = templates.iter().map(|template| template.name.clone()).collect();
                let default = templates.into_iter().find(|template| template.name == DEFAULT_TEMPLATE);
                default.map(|template| template.template).ok_or_else(|| Error::Chat {
                    file: file.to_owned(),
                    reason: format!("none of the chat templates {names:?} is named {DEFAULT_TEMPLATE:?}"),
                })
            }
            None => Err(Error::Chat {
                file: file.to_owned(),
                reason: format!(
                    "there is no chat template, neither here (`chat_template`) nor in {CHAT_TEMPLATE} beside it; \
                     `--chat-template` names one"
                ),
            }),
        }
    }
}
