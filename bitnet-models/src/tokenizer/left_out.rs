//! Finds what a tokenizer would leave out of a prompt without a word: a BPE has no token for each character, and one
//! without an unknown token skips those that it does not have.

use tokenizers::models::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::{
    Model, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizer, PreTokenizerWrapper, Tokenizer,
};

use super::bytes;

/// What is left out of a text, in words; `None` if nothing is.
pub(super) fn of(library: &Tokenizer, text: &str) -> tokenizers::Result<Option<String>> {
    let ModelWrapper::BPE(model) = library.get_model() else { return Ok(None) };
    if model.unk_token.is_some() {
        return Ok(None);
    }
    let mut parts = library.get_added_vocabulary().extract_and_normalize(library.get_normalizer(), text);
    if let Some(pre_tokenizer) = library.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut parts)?;
    }
    let words = parts.get_splits(OffsetReferential::Original, OffsetType::Byte);
    // Those that are added tokens have their ids already.
    let mut unknown =
        words.iter().filter(|(_, _, tokens)| tokens.is_none()).filter_map(|(word, ..)| first(model, word));
    Ok(unknown.next().map(|character| match bytes::of_token(character.encode_utf8(&mut [0; 4])).as_slice() {
        [byte] if is_byte_level(library) => format!("the byte {byte:#04x}"),
        _ => format!("the character {character:?}"),
    }))
}

/// The first character of a word that the model has no token for, as in the `merge_word` of the library.
fn first(model: &BPE, word: &str) -> Option<char> {
    let is_token = |token: &str| model.token_to_id(token).is_some();
    if model.ignore_merges && is_token(word) {
        return None;
    }
    let mut characters = word.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let prefix = model.continuing_subword_prefix.as_deref().filter(|_| at > 0).unwrap_or_default();
        let suffix = model.end_of_word_suffix.as_deref().filter(|_| characters.peek().is_none()).unwrap_or_default();
        let token = format!("{prefix}{character}{suffix}");
        let in_bytes = || model.byte_fallback && token.bytes().all(|byte| is_token(&format!("<{byte:#04X}>")));
        if !is_token(&token) && !in_bytes() {
            return Some(character);
        }
    }
    None
}

/// Whether the model gets a character for each byte.
fn is_byte_level(library: &Tokenizer) -> bool {
    let normalizer = library.get_normalizer().is_some_and(|normalizer| match normalizer {
        NormalizerWrapper::Sequence(sequence) => {
            sequence.as_ref().iter().any(|one| matches!(one, NormalizerWrapper::ByteLevel(_)))
        }
        one => matches!(one, NormalizerWrapper::ByteLevel(_)),
    });
    normalizer
        || library.get_pre_tokenizer().is_some_and(|pre_tokenizer| match pre_tokenizer {
            PreTokenizerWrapper::Sequence(sequence) => {
                sequence.as_ref().iter().any(|one| matches!(one, PreTokenizerWrapper::ByteLevel(_)))
            }
            one => matches!(one, PreTokenizerWrapper::ByteLevel(_)),
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::tokenizer::Tokenizer;

    fn tokenizer(vocab: &[&str], change: impl FnOnce(&mut Value)) -> Tokenizer {
        let vocab: serde_json::Map<_, _> =
            vocab.iter().zip(0..).map(|(token, id)| ((*token).into(), id.into())).collect();
        let mut json = json!({"version": "1.0", "added_tokens": [], "normalizer": null, "post_processor": null,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
            "decoder": null, "model": {"type": "BPE", "vocab": vocab, "merges": []}});
        change(&mut json);
        Tokenizer::from_json(json.to_string().as_bytes(), "t.json".to_owned()).expect("a tokenizer")
    }

    fn refused(tokenizer: &Tokenizer, text: &str) -> String {
        tokenizer.encode(text).expect_err("no token").to_string()
    }

    #[test]
    fn what_has_no_token_is_an_error_and_not_left_out() {
        let bytes = tokenizer(&["a", "b"], |_| {});
        assert_eq!(bytes.encode("ab").expect("ids"), [0, 1]);
        assert!(refused(&bytes, "aéb").contains("no token for the byte 0xc3"));
        assert!(refused(&bytes, "a b").contains("no token for the byte 0x20"));

        let characters = tokenizer(&["a", "b"], |json| json["pre_tokenizer"] = json!({"type": "Whitespace"}));
        assert_eq!(characters.encode("a b").expect("ids"), [0, 1]);
        assert!(refused(&characters, "a é").contains("no token for the character 'é'"));
    }

    /// Each of these has an id for the whole text, though there is none for each of its characters.
    #[test]
    fn what_has_a_token_in_another_way_is_encoded() {
        let added = tokenizer(&["a", "Ã©"], |json| {
            json["added_tokens"] = json!([{"id": 1, "content": "é", "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true}]);
        });
        assert!(added.encode("aéa").is_ok());
        let word = tokenizer(&["a", "Ã©"], |json| json["model"]["ignore_merges"] = json!(true));
        assert_eq!(word.encode("é").expect("ids"), [1]);
        let lower = tokenizer(&["a"], |json| json["normalizer"] = json!({"type": "Lowercase"}));
        assert_eq!(lower.encode("A").expect("ids"), [0]);
        let unknown = tokenizer(&["a", "?"], |json| json["model"]["unk_token"] = json!("?"));
        assert_eq!(unknown.encode("b").expect("ids"), [1]);
        let fallback = tokenizer(&["a", "<0xC3>", "<0xA9>"], |json| {
            json["pre_tokenizer"] = Value::Null;
            json["model"]["byte_fallback"] = json!(true);
        });
        assert_eq!(fallback.encode("é").expect("ids"), [1, 2]);
        assert!(refused(&fallback, "è").contains("no token for the character 'è'"));
        let parts = tokenizer(&["a", "##b</w>"], |json| {
            json["pre_tokenizer"] = Value::Null;
            json["model"]["continuing_subword_prefix"] = json!("##");
            json["model"]["end_of_word_suffix"] = json!("</w>");
        });
        assert_eq!(parts.encode("ab").expect("ids"), [0, 1]);
        assert!(refused(&parts, "ba").contains("no token for the character 'b'"));
    }
}
