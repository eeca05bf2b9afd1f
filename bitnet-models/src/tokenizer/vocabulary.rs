//! The vocabulary inside a GGUF, made into a tokenizer.

use std::collections::HashMap;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::processors::template::{SpecialToken, Template, TemplateProcessing};
use tokenizers::{AddedToken, Tokenizer};

use super::added::Added;
use super::split::Words;
use super::{merges, unwind};
use crate::checkpoint::gguf::Metadata;
use crate::error::Result;

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const BOS: &str = "tokenizer.ggml.bos_token_id";
const EOS: &str = "tokenizer.ggml.eos_token_id";

/// What stands in for `tokenizer.ggml.model` where a GGUF has no vocabulary.
const NONE: &str = "none";
/// Byte-level BPE.
const GPT_2: &str = "gpt2";

// Values of `tokenizer.ggml.token_type` (llama.cpp, `include/llama.h`, `llama_token_type`).
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The values `tokenizer.*` of a GGUF (ggml, `docs/gguf.md`), as they are in the file.
///
/// With `model` = `gpt2` they describe a byte-level BPE, as that of Llama 3 and so of BitNet b1.58 2B-4T. A vocabulary
/// without `pre` is cut into words like that of Llama 3: the published GGUF of 2B-4T lacks the key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    /// `tokenizer.ggml.model`.
    pub model: String,
    /// `tokenizer.ggml.pre`.
    pub pre: Option<String>,
    /// `tokenizer.ggml.tokens`, by id.
    pub tokens: Vec<String>,
    /// `tokenizer.ggml.token_type`, by id; `None` if absent: then all tokens are normal.
    pub token_types: Option<Vec<i32>>,
    /// `tokenizer.ggml.merges`, the most important first, as in `Ġ t`.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`, the begin token.
    pub bos: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`, the end of a text.
    pub eos: Option<u32>,
    /// `tokenizer.ggml.eot_token_id`, the end of a turn.
    pub eot: Option<u32>,
    /// `tokenizer.ggml.eom_token_id`, the end of a message.
    pub eom: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; if absent, a vocabulary of the Llama 3 kind begins a prompt with the begin token.
    pub add_bos: Option<bool>,
    /// `tokenizer.ggml.add_eos_token`.
    pub add_eos: Option<bool>,
}

impl Vocabulary {
    /// The key of the chat template.
    pub(crate) const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

    /// Reads the vocabulary of a GGUF.
    ///
    /// # Errors
    ///
    /// If a value has another type.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self> {
        let text = |key| metadata.string(key).map(|text| text.map(str::to_owned));
        let texts = |key| metadata.strings(key).map(|texts| texts.map(<[String]>::to_vec).unwrap_or_default());
        let types = metadata.integers("tokenizer.ggml.token_type")?;
        Ok(Self {
            model: text(MODEL)?.unwrap_or_default(),
            pre: text(PRE)?,
            tokens: texts(TOKENS)?,
            // A type that no 32 bits hold is none of the known ones.
            token_types: types.map(|types| types.into_iter().map(|kind| kind.try_into().unwrap_or(0)).collect()),
            merges: texts("tokenizer.ggml.merges")?,
            bos: id(metadata, BOS)?,
            eos: id(metadata, EOS)?,
            eot: id(metadata, "tokenizer.ggml.eot_token_id")?,
            eom: id(metadata, "tokenizer.ggml.eom_token_id")?,
            add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
            add_eos: metadata.bool("tokenizer.ggml.add_eos_token")?,
        })
    }

    /// Whether a GGUF has a vocabulary.
    pub(crate) fn is_in(metadata: &Metadata) -> bool {
        metadata.get(MODEL).is_some() && !matches!(metadata.string(MODEL), Ok(Some(NONE)))
    }

    /// Whether the vocabulary of a GGUF is of a kind that a tokenizer can be built from.
    pub(crate) fn is_readable(metadata: &Metadata) -> bool {
        matches!(metadata.string(MODEL), Ok(Some(GPT_2)))
            && metadata.string(PRE).is_ok_and(|pre| Words::of(pre).is_ok())
    }

    /// The begin and the end token.
    pub(crate) fn begin_and_end(metadata: &Metadata) -> Result<(Option<String>, Option<String>)> {
        let tokens = metadata.strings(TOKENS)?.unwrap_or_default();
        let token = |id: Option<u32>| tokens.get(usize::try_from(id?).ok()?).cloned();
        Ok((token(id(metadata, BOS)?), token(id(metadata, EOS)?)))
    }

    /// The text of a token that is named by its id.
    fn token(&self, id: Option<u32>) -> Option<&str> {
        self.tokens.get(usize::try_from(id?).ok()?).map(String::as_str)
    }

    /// The ids that end a text.
    pub(super) fn ends(&self) -> Vec<u32> {
        let mut ends: Vec<u32> = [self.eos, self.eot, self.eom].into_iter().flatten().collect();
        ends.dedup();
        ends
    }

    /// Builds the tokenizer; the error is the reason.
    pub(super) fn build(&self, vocab_size: usize) -> std::result::Result<Tokenizer, String> {
        match self.model.as_str() {
            GPT_2 => {}
            NONE | "" => {
                return Err("the file has no vocabulary (`tokenizer.ggml.model`); a prompt needs one, token ids \
                            (`--tokens`) do not"
                    .to_owned());
            }
            other => {
                return Err(format!(
                    "`tokenizer.ggml.model` is {other:?}; expected \"gpt2\" (byte-level BPE). Token ids (`--tokens`) \
                     work with any"
                ));
            }
        }
        let words = Words::of(self.pre.as_deref())?;
        let ids = self.check_tokens(vocab_size)?;
        let begin = self.begin(words)?;
        let end = if self.add_eos == Some(true) { Some(self.needed(self.eos, "eos", "add_eos_token")?) } else { None };

        let mut pairs = Vec::with_capacity(self.merges.len());
        for (index, merge) in self.merges.iter().enumerate() {
            let (left, right) = merges::parts(index, merge)?;
            merges::check(index, (left, right), "", |token| ids.contains_key(token))?;
            pairs.push((left.to_owned(), right.to_owned()));
        }
        let vocabulary: Vocab = ids.into_iter().map(|(token, id)| (token.to_owned(), id)).collect();
        let added = self.added_tokens()?;

        let make = unwind::caught(|| {
            let model =
                BPE::builder().vocab_and_merges(vocabulary, pairs).ignore_merges(words.ignore_merges).build()?;
            let mut tokenizer = Tokenizer::new(model);
            tokenizer.with_pre_tokenizer(Some(words.pre_tokenizer()?));
            tokenizer.with_decoder(Some(ByteLevel::default()));
            tokenizer.with_post_processor(post_processor(begin, end)?);
            tokenizer.add_tokens(added)?;
            Ok(tokenizer)
        });
        make.map_err(|error| format!("the vocabulary makes no tokenizer: {error}"))
    }

    /// Checks the tokens, their types and the ids of special ones; returns the id of each token.
    fn check_tokens(&self, vocab_size: usize) -> std::result::Result<HashMap<&str, u32>, String> {
        let count = self.tokens.len();
        if count == 0 || count > vocab_size {
            return Err(format!(
                "`tokenizer.ggml.tokens` has {count} tokens; expected 1 to {vocab_size}, the model's ids"
            ));
        }
        if let Some(types) = self.token_types.as_ref().filter(|types| types.len() != count) {
            return Err(format!("`tokenizer.ggml.token_type` has {} values for {count} tokens", types.len()));
        }
        let mut ids = HashMap::with_capacity(count);
        for (token, id) in self.tokens.iter().zip(0u32..) {
            // An empty token is an unused id; no text is encoded to it.
            if token.is_empty() {
                continue;
            }
            if let Some(first) = ids.insert(token.as_str(), id) {
                return Err(format!("`tokenizer.ggml.tokens`: the ids {first} and {id} have the same token {token:?}"));
            }
        }
        for (name, id) in [("bos", self.bos), ("eos", self.eos), ("eot", self.eot), ("eom", self.eom)] {
            if let Some(id) = id.filter(|id| self.token(Some(*id)).is_none()) {
                return Err(format!("`tokenizer.ggml.{name}_token_id` is {id}; expected an id below {count}"));
            }
        }
        Ok(ids)
    }

    /// The token that a prompt begins with.
    fn begin(&self, words: Words) -> std::result::Result<Option<(u32, String)>, String> {
        match self.add_bos {
            Some(true) => self.needed(self.bos, "bos", "add_bos_token").map(Some),
            None if words.add_bos => Ok(self.bos.zip(self.token(self.bos).map(str::to_owned))),
            Some(false) | None => Ok(None),
        }
    }

    fn needed(&self, id: Option<u32>, name: &str, asked_by: &str) -> std::result::Result<(u32, String), String> {
        id.zip(self.token(id).map(str::to_owned)).ok_or_else(|| {
            format!("`tokenizer.ggml.{asked_by}` is true, and there is no `tokenizer.ggml.{name}_token_id`")
        })
    }

    /// The tokens that are found in a text before it is cut into words.
    fn added_tokens(&self) -> std::result::Result<Vec<AddedToken>, String> {
        let (mut added, mut count) = (Vec::new(), Added::default());
        for ((token, kind), id) in self.tokens.iter().zip(self.token_types.iter().flatten()).zip(0u32..) {
            if token.is_empty() || ![UNKNOWN, CONTROL, USER_DEFINED].contains(kind) {
                continue;
            }
            count.count(id, token)?;
            added.push(AddedToken::from(token.as_str(), *kind != USER_DEFINED).normalized(false));
        }
        Ok(added)
    }
}

/// The id of a token.
fn id(metadata: &Metadata, key: &str) -> Result<Option<u32>> {
    let Some(id) = metadata.unsigned(key)? else { return Ok(None) };
    u32::try_from(id).map(Some).map_err(|_| metadata.error(key, "a token id", id.to_string()))
}

/// Puts the begin and the end token around a prompt.
fn post_processor(
    begin: Option<(u32, String)>,
    end: Option<(u32, String)>,
) -> tokenizers::Result<Option<TemplateProcessing>> {
    let mut pieces = vec!["$A"];
    let mut special = Vec::new();
    // The names are those of the template's places: a token may hold what has a meaning in a template.
    if let Some((id, token)) = begin {
        pieces.insert(0, "begin");
        special.push(SpecialToken::new("begin".to_owned(), vec![id], vec![token])?);
    }
    if let Some((id, token)) = end {
        pieces.push("end");
        special.push(SpecialToken::new("end".to_owned(), vec![id], vec![token])?);
    }
    if special.is_empty() {
        return Ok(None);
    }
    Ok(Some(TemplateProcessing::builder().try_single(Template::try_from(pieces)?)?.special_tokens(special).build()?))
}

#[cfg(test)]
mod tests;
