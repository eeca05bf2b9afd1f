//! One token a character: the ten digits, plus, equals, and two special tokens.

use crate::error::{Error, Result};

/// The characters that have a token; the token's id is the character's index.
pub(crate) const CHARACTERS: [char; 12] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '='];

/// The token that ends an answer.
pub(crate) const END: u32 = 12;

/// The token that pads the shorter rows of a batch.
pub(crate) const PAD: u32 = 13;

/// The text of [`END`].
pub(crate) const END_TEXT: &str = "<end>";

/// The text of [`PAD`].
pub(crate) const PAD_TEXT: &str = "<pad>";

/// How many tokens there are.
pub(crate) const SIZE: usize = 14;

/// The ids of a text's characters.
///
/// # Errors
///
/// If the text holds a character without a token.
pub(crate) fn encode(text: &str) -> Result<Vec<u32>> {
    text.chars()
        .map(|character| {
            let place =
                CHARACTERS.iter().position(|&known| known == character).ok_or(Error::UnknownCharacter(character))?;
            Ok(u32::try_from(place)?)
        })
        .collect()
}
