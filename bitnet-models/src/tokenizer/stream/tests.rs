use serde_json::json;

use crate::tokenizer::Tokenizer;

/// The text of ids that come one by one, and its parts.
fn streamed(tokenizer: &Tokenizer, ids: &[u32]) -> (String, Vec<String>) {
    let mut stream = tokenizer.stream();
    let mut parts: Vec<String> = ids.iter().map(|id| stream.push(*id).expect("a text")).collect();
    parts.push(stream.finish().expect("a text"));
    (parts.concat(), parts)
}

/// The byte-level vocabulary of the fixture.
fn byte_level() -> Tokenizer {
    Tokenizer::from_json(include_bytes!("../../../tests/text/tokenizer.json"), "tokenizer.json".to_owned())
        .expect("a tokenizer")
}

/// A vocabulary as sentencepiece makes them: spaces are `▁`, and what has no token comes byte by byte.
fn sentencepiece() -> Tokenizer {
    let mut vocab: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    vocab.extend(["▁", "▁a", "a", "b", "<unk>", "</s>"].map(str::to_owned));
    let vocab: serde_json::Map<_, _> = vocab.into_iter().zip(0..).map(|(token, id)| (token, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "added_tokens": [{"id": 261, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
                  "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": []},
    });
    Tokenizer::from_json(tokenizer.to_string().as_bytes(), "tokenizer.json".to_owned()).expect("a tokenizer")
}

/// Ids as a random walk gives them; half of them are single bytes, which mostly make no UTF-8.
fn random_ids(seed: u64, below: u32) -> Vec<u32> {
    use rand::{RngExt, SeedableRng};
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let length = random.random_range(0..40);
    (0..length)
        .map(|_| if random.random() { random.random_range(0..256) } else { random.random_range(0..below) })
        .collect()
}

#[test]
fn the_parts_of_a_text_are_the_whole_text() {
    for (tokenizer, below) in [(byte_level(), 430), (sentencepiece(), 262)] {
        for seed in 0..2000 {
            let ids = random_ids(seed, below);
            assert_eq!(streamed(&tokenizer, &ids).0, tokenizer.decode(&ids).expect("a text"), "{ids:?}");
        }
    }
}

#[test]
fn a_character_comes_whole_and_at_once() {
    let bytes = |tokenizer: &Tokenizer, text: &str, token: &dyn Fn(u8) -> String| {
        text.bytes().map(|byte| tokenizer.id(&token(byte)).expect("a token")).collect::<Vec<u32>>()
    };
    let byte_level = byte_level();
    let ids = bytes(&byte_level, "é€🙂a", &|byte| super::bytes::character(byte).to_string());
    let (_, parts) = streamed(&byte_level, &ids);
    assert_eq!(parts, ["", "é", "", "", "€", "", "", "", "🙂", "a", ""]);

    let sentencepiece = sentencepiece();
    let mut ids = bytes(&sentencepiece, "€", &|byte| format!("<0x{byte:02X}>"));
    ids.extend([257, 261, 258]); // `▁a`, `</s>`, `a`
    let (_, parts) = streamed(&sentencepiece, &ids);
    assert_eq!(parts, ["", "", "", "€ a", "", "a", ""]);
}

#[test]
fn what_is_not_utf_8_comes_as_replacement_characters_and_what_follows_it_is_not_held_back() {
    let tokenizer = byte_level();
    let id = |byte| tokenizer.id(&super::bytes::character(byte).to_string()).expect("a token");
    let (_, parts) = streamed(&tokenizer, &[id(0xFF), id(0xE2), id(b'a'), id(0xF0), id(0x9F)]);
    assert_eq!(parts, ["\u{FFFD}", "", "\u{FFFD}a", "", "", "\u{FFFD}"]);
}

#[test]
fn an_id_without_a_token_adds_nothing() {
    for tokenizer in [byte_level(), sentencepiece()] {
        assert_eq!(streamed(&tokenizer, &[u32::MAX, 1_000_000]).0, "");
    }
}
