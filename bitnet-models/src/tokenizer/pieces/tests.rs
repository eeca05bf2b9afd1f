use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::tokenizer::Tokenizer;

fn read(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, String> {
    let mut tokenizer: Value = serde_json::from_str(include_str!("../../../tests/text/tokenizer.json")).expect("JSON");
    change(&mut tokenizer);
    Tokenizer::from_json(tokenizer.to_string().as_bytes(), "t.json".to_owned()).map_err(|error| error.to_string())
}

fn refused(key: &str, value: Value) -> String {
    let message = read(|json| json[key] = value).expect_err("refused");
    assert!(message.starts_with("t.json: the "), "{message}");
    message
}

fn replace(pattern: &Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

fn normalizers(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "normalizers": steps})
}

/// Each of these is a panic in the library, at the latest when a text is encoded or decoded.
#[test]
fn pieces_that_the_library_panics_over_are_refused() {
    let fixed = json!({"type": "FixedLength", "length": 0});
    let sequence = json!({"type": "Sequence", "pretokenizers": [{"type": "Sequence", "pretokenizers": [&fixed]}]});
    for pre_tokenizer in [fixed, sequence] {
        assert!(refused("pre_tokenizer", pre_tokenizer).contains("words of 0 characters"));
    }
    for pattern in [json!({"String": ""}), json!({"Regex": ""}), json!({"Regex": "x*"}), json!({"Regex": "\\b"})] {
        for normalizer in [replace(&pattern, "y"), normalizers(&[replace(&pattern, "y")])] {
            assert!(refused("normalizer", normalizer).contains("the normalizer replaces the empty text"));
        }
    }
    assert!(refused("normalizer", json!({"type": "Prepend", "prepend": ""})).contains("prepends an empty text"));
    for decoder in [
        json!({"type": "Strip", "content": "\u{c8}", "start": 1, "stop": 1}),
        json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 0, "stop": 2}]}),
    ] {
        assert!(refused("decoder", decoder).contains("off the end; expected 0"));
    }
    // A token list without a token, as at the end of a text.
    let decoder = read(|json| json["decoder"] = json!({"type": "BPEDecoder", "suffix": ""})).expect("a tokenizer");
    assert_eq!(decoder.decode(&[]).expect("a text"), "");
    // What is published.
    assert!(read(|json| json["decoder"] = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0})).is_ok());
}

#[test]
fn a_text_may_not_be_made_long_without_end() {
    let long = "a".repeat(1000);
    let grows = |content: &str| replace(&json!({"String": "a"}), content);
    let six = vec![grows(&long); 6];
    assert!(
        refused("normalizer", normalizers(&six)).contains("may make a text 1000 times as long; expected at most 256")
    );
    let decoders = json!({"type": "Sequence", "decoders": [grows("aaaaaaaaaaaaaaaa"), grows("aaaaaaaaaaaaaaaaa")]});
    assert!(refused("decoder", decoders).contains("the decoder may make a text 272 times as long"));
    // By way of another letter, and by one that lower case makes the same.
    let by_way = [grows("bbbbbbbbbbbbbbbbb"), replace(&json!({"String": "b"}), "cccccccccccccccc")];
    assert!(refused("normalizer", normalizers(&by_way)).contains("272 times"));
    let lower = [
        grows("BBBBBBBBBBBBBBBBB"),
        json!({"type": "Lowercase"}),
        replace(&json!({"String": "b"}), "cccccccccccccccc"),
    ];
    assert!(refused("normalizer", normalizers(&lower)).contains("272 times"));
    let regex = [grows("bbbbbbbbbbbbbbbbb"), replace(&json!({"Regex": "."}), "cccccccccccccccc")];
    assert!(refused("normalizer", normalizers(&regex)).contains("272 times"));
    assert!(refused("normalizer", json!({"type": "Prepend", "prepend": "x".repeat(1025)})).contains("1025 bytes"));
    assert!(refused("normalizer", grows(&"x".repeat(1025))).contains("1025 bytes"));
    assert!(refused("normalizer", normalizers(&vec![grows("b"); 257])).contains("257 steps"));

    // Many that do not add up, and what is published.
    let newline = |text: &str| replace(&json!({"String": text}), "<0x0A>");
    let apart: Vec<_> = ["\n", "\t", "\r", "\u{b}", "\u{c}"].map(newline).into();
    assert!(read(|json| json["normalizer"] = normalizers(&apart)).is_ok());
    let llama = [json!({"type": "Prepend", "prepend": "\u{2581}"}), replace(&json!({"String": " "}), "\u{2581}")];
    assert!(read(|json| json["normalizer"] = normalizers(&llama)).is_ok());
}

/// A trie with the key `a`, whose value is the text at `value`.
fn charsmap(value: u32, texts: &[u8]) -> String {
    let mut units = [0u32; 256];
    units[0x61] = 0x61 | (1 << 8) | (1 << 10);
    units[0x60] = (1 << 31) | value;
    let trie: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
    STANDARD.encode([&1024u32.to_le_bytes(), &*trie, texts].concat())
}

#[test]
fn a_table_of_sentence_piece_is_walked_before_it_is_used() {
    let normalizer = |table: &str| json!({"type": "Precompiled", "precompiled_charsmap": table});
    let sound = read(|json| json["normalizer"] = normalizer(&charsmap(2, "c\0b\0".as_bytes()))).expect("a tokenizer");
    let plain = read(|_| {}).expect("a tokenizer");
    assert_eq!(sound.encode("abc").expect("ids"), plain.encode("bbc").expect("ids"));

    let two_units = STANDARD.encode([&8u32.to_le_bytes()[..], &[0; 8]].concat());
    for (table, said) in [
        ("", "it is empty"),
        ("????", "Invalid symbol"),
        ("AAAAAA==", "it has no trie"),
        ("/////wAA", "it ends inside the trie"),
        (&two_units, "the trie points outside of itself"),
        (&charsmap(5, "c\0b\0".as_bytes()), "points to no text"),
        (&charsmap(1, "\u{e9}\0".as_bytes()), "points to no text"),
        (&charsmap(0, b"\xFF\0"), "invalid utf-8"),
    ] {
        let message = refused("normalizer", normalizer(table));
        assert!(message.contains("`precompiled_charsmap` is malformed: ") && message.contains(said), "{message}");
    }
    let long = charsmap(0, "x".repeat(300).as_bytes());
    assert!(refused("normalizer", normalizer(&long)).contains("300 times as long"));
}
