//! The tokenizer of a checkpoint, `tokenizer.json`.

use crate::error::{Error, Result};

/// Converts text to token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    tokenizer: tokenizers::Tokenizer,
    file: String,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` names it in errors.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn from_json(json: &[u8], file: String) -> Result<Self> {
        match tokenizers::Tokenizer::from_bytes(json) {
            Ok(tokenizer) => Ok(Self { tokenizer, file }),
            Err(error) => Err(Error::Tokenizer { file, reason: format!("not a tokenizer: {error}") }),
        }
    }

    /// Returns the ids of a text, with the special tokens that the tokenizer adds.
    ///
    /// # Errors
    ///
    /// If the tokenizer has no token for a part of it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.tokenizer.encode(text, true).map_err(|error| Error::Tokenizer {
            file: self.file.clone(),
            reason: format!("cannot encode the prompt {text:?}: {error}"),
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns the text of ids, without special tokens.
    ///
    /// # Errors
    ///
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.tokenizer.decode(ids, true).map_err(|error| Error::Tokenizer {
            file: self.file.clone(),
            reason: format!("cannot decode {ids:?}: {error}"),
        })
    }
}
