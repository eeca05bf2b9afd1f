//! The alphabet of byte-level BPE: a printable character for each byte (`OpenAI`'s GPT-2, `encoder.py`,
//! `bytes_to_unicode`).

/// The first of the characters that stand for bytes without a printable Latin-1 character.
const SHIFTED: u32 = 256;

/// Bytes that stand for themselves.
const fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF)
}

/// The character of a byte.
#[cfg(test)]
pub(super) fn character(byte: u8) -> char {
    if is_printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !is_printable(*byte)).count();
    u32::try_from(before)
        .ok()
        .and_then(|before| char::from_u32(SHIFTED + before))
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character.
fn byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ 0..SHIFTED => u8::try_from(code).ok().filter(|byte| is_printable(*byte)),
        code => (0..=u8::MAX).filter(|byte| !is_printable(*byte)).nth(usize::try_from(code - SHIFTED).ok()?),
    }
}

/// The bytes that a token stands for. One with other characters, as an added token may have, stands for its own text.
pub(super) fn of_token(token: &str) -> Vec<u8> {
    token.chars().map(byte).collect::<Option<_>>().unwrap_or_else(|| token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::{character, of_token};

    #[test]
    fn every_byte_has_a_character_of_the_library_and_comes_back() {
        let alphabet: BTreeSet<char> = (0..=255).map(character).collect();
        assert_eq!(alphabet, ByteLevel::alphabet().into_iter().collect());
        assert!((0..=255).all(|byte| of_token(&character(byte).to_string()) == [byte]));
        assert_eq!((character(b' '), character(b'\n')), ('Ġ', 'Ċ'));
        assert_eq!(of_token("Ġé中"), "Ġé中".as_bytes());
    }
}
