//! The crate's error type: every message says what was expected, what was found, and where.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::kernels::Kernel;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What can be wrong with a checkpoint, a prompt or a computation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file does not have the format that its name says.
    #[error("{file}: {reason}")]
    Format {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration asks for something other than the BitNet b1.58 that this crate implements.
    #[error("{file}: `{field}` is {found}; expected {expected}")]
    Config {
        /// The file.
        file: String,
        /// The key, dotted for nested ones.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// A tensor is missing, or has another shape or type.
    #[error("{file}: tensor `{tensor}`: expected {expected}, found {found}")]
    Tensor {
        /// The file.
        file: String,
        /// The tensor's name; of a long one, its beginning.
        tensor: String,
        /// Type and shape that the configuration calls for.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A value in the head of a GGUF file is missing or has another type, or is not one that this crate can run.
    #[error("{file}: metadata `{key}`: expected {expected}, found {found}")]
    Metadata {
        /// The file.
        file: String,
        /// The key.
        key: String,
        /// What is allowed.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// The tokenizer is missing, unreadable, or does not know a text.
    #[error("{file}: {reason}")]
    Tokenizer {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The chat template is missing or malformed, or refuses the messages.
    #[error("{file}: {reason}")]
    Chat {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The prompt is empty.
    #[error("the prompt has no tokens; expected at least one")]
    EmptyPrompt,
    /// The prompt does not fit into the context.
    #[error(
        "the prompt has {tokens} tokens; expected at most {context}, the positions of the model's context that are not in the cache yet"
    )]
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// Positions that are left.
        context: usize,
    },
    /// A token id that the model has no embedding for.
    #[error("token id {id} at position {position}: expected an id below {vocab_size}, the size of the vocabulary")]
    TokenOutOfRange {
        /// The id.
        id: u32,
        /// Where in the text, from 0.
        position: usize,
        /// The number of ids that the model knows.
        vocab_size: usize,
    },
    /// The cache was made for another model.
    #[error("the cache has {layers} layers; expected {blocks}, the model's blocks")]
    OtherCache {
        /// Layers of the cache.
        layers: usize,
        /// Blocks of the model.
        blocks: usize,
    },
    /// Every logit is NaN or infinite, so there is no next token.
    #[error("no next token after position {position}: none of the logits is finite")]
    NoFiniteLogit {
        /// Position of the token whose logits these are, from 0.
        position: usize,
    },
    /// A temperature that is not a finite number of at least 0.
    #[error("temperature is {0}; expected a finite number of at least 0")]
    Temperature(f64),
    /// The processor lacks the instructions that were asked for.
    #[error("this processor does not have the instructions of the kernel `{0}`; the fastest it has is `{best}`", best = Kernel::best())]
    Kernel(Kernel),
    /// The threads that were asked for could not be started.
    #[error("cannot start {threads} threads")]
    Threads {
        /// How many.
        threads: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// A computation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }
}

/// The longest text from a file that a message shows whole, in characters.
const LONGEST_SHOWN: usize = 200;

/// A text from a file in a message; of a long one, its beginning and its length.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short<'a>(pub(crate) &'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST_SHOWN) {
            Some((end, _)) => write!(f, "{}... ({} bytes)", &self.0[..end], self.0.len()),
            None => f.write_str(self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Short;

    #[test]
    fn of_a_long_text_the_beginning_is_shown() {
        let text = "ä".repeat(200);
        assert_eq!(Short(&text).to_string(), text);
        assert_eq!(Short(&"ä".repeat(201)).to_string(), format!("{text}... (402 bytes)"));
    }
}
