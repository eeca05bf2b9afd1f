//! Limits on the tokens that are looked for in a text before it is cut into words.

use std::fmt::Display;

/// Most bytes of one of these tokens. The longest published ones have some 50.
const LONGEST: usize = 1024;

/// Most bytes of all of them together: the search takes some 80 times as much memory, and 2 seconds for this many. The
/// 256 of Llama 3 have 8 kB, the 6,400 of Gemma 3 have 90 kB.
const MOST_BYTES: usize = 1 << 20;

/// Counts the tokens of a file.
#[derive(Debug, Default)]
pub(super) struct Added {
    bytes: usize,
}

impl Added {
    /// Takes another token; the error is what there is too much of.
    pub(super) fn count(&mut self, id: impl Display, token: &str) -> Result<(), String> {
        if token.len() > LONGEST {
            return Err(format!("the special token {id} has {} bytes; expected at most {LONGEST}", token.len()));
        }
        self.bytes += token.len();
        if self.bytes > MOST_BYTES {
            return Err(format!(
                "the special tokens up to {id} have {} bytes; expected at most {MOST_BYTES}",
                self.bytes
            ));
        }
        Ok(())
    }
}
