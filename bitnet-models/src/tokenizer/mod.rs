//! Text to token ids and back: `tokenizer.json` of a checkpoint, or the vocabulary inside a GGUF.

mod added;
mod bytes;
mod json;
mod left_out;
mod merges;
mod pieces;
mod split;
mod stream;
mod unwind;
mod vocabulary;

pub use stream::TextStream;
pub use vocabulary::Vocabulary;

use crate::error::{Error, Result};

/// Ends a turn in the vocabularies of Llama 3, and so in those of BitNet b1.58 2B-4T. The configuration of a checkpoint
/// does not always name it.
const END_OF_TURN: &str = "<|eot_id|>";

/// Converts text to token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    library: tokenizers::Tokenizer,
    file: String,
    /// Ids that the file names as ends of a text.
    ends: Vec<u32>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; `file` names it in errors. Padding and truncation are not applied to a prompt, as in
    /// transformers.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn from_json(json: &[u8], file: String) -> Result<Self> {
        json::check(json).map_err(|reason| Error::Tokenizer { file: file.clone(), reason })?;
        let read = unwind::caught(|| {
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(json)?;
            tokenizer.with_truncation(None)?.with_padding(None);
            Ok(tokenizer)
        });
        match read {
            Ok(tokenizer) => Ok(Self { library: tokenizer, file, ends: Vec::new() }),
            Err(error) => Err(Error::Tokenizer { file, reason: format!("not a tokenizer: {error}") }),
        }
    }

    /// Builds the tokenizer of a vocabulary as GGUF files hold it; `file` names it in errors. `vocab_size` is the
    /// number of ids that the model knows.
    ///
    /// # Errors
    ///
    /// If the vocabulary is not a byte-level BPE, or contradicts itself or `vocab_size`.
    pub fn from_vocabulary(vocabulary: &Vocabulary, vocab_size: usize, file: String) -> Result<Self> {
        match vocabulary.build(vocab_size) {
            Ok(tokenizer) => Ok(Self { library: tokenizer, file, ends: vocabulary.ends() }),
            Err(reason) => Err(Error::Tokenizer { file, reason }),
        }
    }

    /// Returns the ids of a text, with the special tokens that the tokenizer adds.
    ///
    /// # Errors
    ///
    /// If the tokenizer has no token for a part of it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, true)
    }

    /// Returns the ids of a text that has its special tokens already, as the prompt that a chat template writes.
    ///
    /// # Errors
    ///
    /// If the tokenizer has no token for a part of it.
    pub fn encode_as_written(&self, text: &str) -> Result<Vec<u32>> {
        self.ids(text, false)
    }

    fn ids(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let fail = |reason: String| self.error(format!("cannot encode the prompt {text:?}: {reason}"));
        if let Some(part) = unwind::caught(|| left_out::of(&self.library, text)).map_err(fail)? {
            return Err(fail(format!("the vocabulary has no token for {part}")));
        }
        let encoding = unwind::caught(|| self.library.encode(text, add_special_tokens)).map_err(fail)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Returns the text of ids, without special tokens.
    ///
    /// # Errors
    ///
    /// If the tokenizer's decoder fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        // The library's decoder of a BPE subtracts 1 from their number.
        if ids.is_empty() {
            return Ok(String::new());
        }
        let text = unwind::caught(|| self.library.decode(ids, true));
        text.map_err(|error| self.error(format!("cannot decode {ids:?}: {error}")))
    }

    /// Decodes ids as they come.
    #[must_use]
    pub fn stream(&self) -> TextStream<'_> {
        TextStream::new(self)
    }

    /// The id of a token by its text, special tokens included.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.library.token_to_id(token)
    }

    /// Ids that end a text: those that the GGUF names, and `<|eot_id|>` where the vocabulary has it as a special token.
    #[must_use]
    pub fn end_tokens(&self) -> Vec<u32> {
        let mut ends = self.ends.clone();
        let special = self.library.get_added_vocabulary().is_special_token(END_OF_TURN);
        ends.extend(self.id(END_OF_TURN).filter(|id| special && !ends.contains(id)));
        ends
    }

    fn error(&self, reason: String) -> Error {
        Error::Tokenizer { file: self.file.clone(), reason }
    }
}
