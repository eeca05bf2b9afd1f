//! Decodes tokens as they come, without cutting a character.

use tokenizers::DecoderWrapper;

use super::{Tokenizer, bytes};
use crate::error::Result;

/// Most tokens that are held back because the text so far ends in U+FFFD, which may stand for the first bytes of a
/// character: no character has more bytes in UTF-8.
const LONGEST_CHARACTER: usize = 4;

/// The text of tokens that come one by one. A character whose bytes are spread over several tokens comes with the last
/// of them; bytes that are not UTF-8 come as U+FFFD. All parts together are what [`Tokenizer::decode`] returns.
///
/// ```
/// # fn main() -> bitnet_models::Result<()> {
/// let tokenizer = bitnet_models::tiny::checkpoint()?.tokenizer()?;
/// let mut stream = tokenizer.stream();
/// let mut text = String::new();
/// for id in tokenizer.encode("1+2=")? {
///     text.push_str(&stream.push(id)?);
/// }
/// text.push_str(&stream.finish()?);
/// assert_eq!(text, "1+2=");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    state: State,
}

#[derive(Debug)]
enum State {
    /// A byte-level vocabulary: the bytes of a character that is not whole yet.
    Bytes(Vec<u8>),
    /// Any other decoder, which may treat a token by what is around it.
    Window(Window),
}

impl<'a> TextStream<'a> {
    pub(super) fn new(tokenizer: &'a Tokenizer) -> Self {
        let state = match tokenizer.library.get_decoder() {
            Some(DecoderWrapper::ByteLevel(_)) => State::Bytes(Vec::new()),
            _ => State::Window(Window::default()),
        };
        Self { tokenizer, state }
    }

    /// Returns what a token adds to the text; nothing for a special token.
    ///
    /// # Errors
    ///
    /// If the tokenizer's decoder fails.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let Some(token) = shown(&self.tokenizer.library, id) else { return Ok(String::new()) };
        match &mut self.state {
            State::Bytes(held) => {
                held.extend(bytes::of_token(&token));
                Ok(take_whole(held))
            }
            State::Window(window) => window.push(self.tokenizer, id, &token),
        }
    }

    /// Returns what was held back.
    ///
    /// # Errors
    ///
    /// If the tokenizer's decoder fails.
    pub fn finish(self) -> Result<String> {
        match self.state {
            State::Bytes(held) => Ok(String::from_utf8_lossy(&held).into_owned()),
            State::Window(mut window) => window.take(self.tokenizer),
        }
    }
}

/// The token of an id as the decoder gets it; `None` for those that are left out of a text.
fn shown(tokenizer: &tokenizers::Tokenizer, id: u32) -> Option<String> {
    let added = tokenizer.get_added_vocabulary();
    let token = added.simple_id_to_token(id).or_else(|| tokenizers::Model::id_to_token(tokenizer.get_model(), id));
    token.filter(|token| !added.is_special_token(token))
}

/// Takes all but the first bytes of a character that may still become whole.
fn take_whole(held: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = Vec::new();
    let mut chunks = held.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        let incomplete = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
        if incomplete && chunks.peek().is_none() {
            rest = invalid.to_vec();
        } else if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    *held = rest;
    text
}

/// Decodes a new token together with those of the last part, so that the cost does not grow with the text.
#[derive(Debug, Default)]
struct Window {
    ids: Vec<u32>,
    /// How many of `ids` are there only because a decoder may treat the next ones by what is before them; their text
    /// was returned.
    returned: usize,
}

impl Window {
    fn push(&mut self, tokenizer: &Tokenizer, id: u32, token: &str) -> Result<String> {
        self.ids.push(id);
        // The text of bytes that come as tokens depends on all of them, up to the next other token.
        if token.len() == 6 && token.starts_with("<0x") && token.ends_with('>') {
            return Ok(String::new());
        }
        let held = self.ids.len() - self.returned;
        let cut = held < LONGEST_CHARACTER && tokenizer.decode(&self.ids)?.ends_with(char::REPLACEMENT_CHARACTER);
        if cut { Ok(String::new()) } else { self.take(tokenizer) }
    }

    fn take(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let before = tokenizer.decode(&self.ids[..self.returned])?;
        let text = tokenizer.decode(&self.ids)?;
        // A decoder that changes what it returned before cannot be followed; then the parts differ from the whole.
        let added = text.strip_prefix(&*before).unwrap_or_default().to_owned();
        if !added.is_empty() {
            self.ids.drain(..self.returned);
            self.returned = self.ids.len();
        }
        Ok(added)
    }
}

#[cfg(test)]
mod tests;
