//! How a text is cut into words before the merges of a byte-level BPE, by the name in `tokenizer.ggml.pre`.
//!
//! The names and the expressions are those of llama.cpp (`src/llama-vocab.cpp`), the expression of Llama 3 that of its
//! `tokenizer.json`.

use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::tokenizer::normalizer::SplitDelimiterBehavior;

const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";

/// A way to cut a text, and what a vocabulary with it does by default.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    expressions: &'static [&'static str],
    /// A word that is a token is that token, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether a prompt begins with the begin token where `add_bos_token` is absent.
    pub(super) add_bos: bool,
}

const LLAMA_3_WORDS: Words = Words { expressions: &[LLAMA_3], ignore_merges: true, add_bos: true };
const GPT_2_WORDS: Words = Words { expressions: &[GPT_2], ignore_merges: false, add_bos: false };
const SMOLLM_WORDS: Words = Words { expressions: &[DIGIT, GPT_2], ignore_merges: false, add_bos: false };

impl Words {
    /// The way of a name. Without one it is that of Llama 3: the published GGUF of BitNet b1.58 2B-4T, whose tokenizer
    /// that is, does not name it.
    pub(super) fn of(name: Option<&str>) -> Result<Self, String> {
        match name {
            None | Some("llama-bpe" | "llama3" | "llama-v3") => Ok(LLAMA_3_WORDS),
            Some("gpt-2") => Ok(GPT_2_WORDS),
            Some("smollm") => Ok(SMOLLM_WORDS),
            Some(other) => Err(format!(
                "`tokenizer.ggml.pre` is {other:?}; expected \"llama-bpe\", \"llama3\", \"llama-v3\", \"gpt-2\" or \
                 \"smollm\". Token ids (`--tokens`) work with any"
            )),
        }
    }

    pub(super) fn pre_tokenizer(self) -> tokenizers::Result<PreTokenizerWrapper> {
        let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
        for expression in self.expressions {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false)?.into());
        }
        steps.push(ByteLevel::new(false, true, false).into());
        Ok(Sequence::new(steps).into())
    }
}
