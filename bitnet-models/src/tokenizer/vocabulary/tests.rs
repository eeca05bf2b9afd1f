use serde_json::Value;

use super::{CONTROL, Vocabulary};
use crate::checkpoint::gguf;
use crate::tokenizer::Tokenizer;

/// More ids than the fixture has.
const VOCAB_SIZE: usize = 440;

/// The vocabulary of the fixture, read from the GGUF that the package `gguf` wrote.
fn vocabulary() -> Vocabulary {
    let file = include_bytes!("../../../tests/text/vocabulary.gguf");
    let scan = gguf::scan("vocabulary.gguf", &bytes::Bytes::from_static(file));
    Vocabulary::from_metadata(&scan.metadata).expect("a vocabulary")
}

fn build(vocabulary: &Vocabulary) -> Result<Tokenizer, String> {
    Tokenizer::from_vocabulary(vocabulary, VOCAB_SIZE, "v.gguf".to_owned()).map_err(|error| error.to_string())
}

fn ids(list: &Value) -> Vec<u32> {
    list.as_array().expect("a list").iter().map(|id| id.as_u64().expect("an id").try_into().expect("an id")).collect()
}

/// What the Python package `tokenizers`, whose regular expressions are those of Oniguruma, made of the same texts.
#[test]
fn ids_and_texts_are_those_of_the_tokenizer_that_the_vocabulary_was_made_of() {
    let golden: Value = serde_json::from_str(include_str!("../../../tests/text/encodings.json")).expect("JSON");
    let json = include_bytes!("../../../tests/text/tokenizer.json");
    let json = Tokenizer::from_json(json, "tokenizer.json".to_owned()).expect("a tokenizer");
    let gguf = build(&vocabulary()).expect("a tokenizer");
    let (encoded, decoded) =
        (golden["encode"].as_array().expect("a list"), golden["decode"].as_array().expect("a list"));
    assert!(encoded.len() > 300 && decoded.len() > 100);
    for tokenizer in [&gguf, &json] {
        for pair in encoded {
            let (text, expected) = (pair[0].as_str().expect("a text"), ids(&pair[1]));
            assert_eq!(tokenizer.encode(text).expect("ids"), expected, "{text:?}");
            // The same without the begin token, for a prompt that has its own.
            assert_eq!(tokenizer.encode_as_written(text).expect("ids"), expected[1..], "{text:?}");
        }
        for pair in decoded {
            assert_eq!(tokenizer.decode(&ids(&pair[0])).expect("a text"), pair[1].as_str().expect("a text"));
        }
    }
    assert_eq!(gguf.end_tokens(), ["<|end_of_text|>", "<|eot_id|>"].map(|token| gguf.id(token).expect("a token")));
    assert_eq!(json.end_tokens(), [json.id("<|eot_id|>").expect("a token")]);
}

#[test]
fn the_published_file_names_no_split_and_has_that_of_llama_3() {
    let unnamed = Vocabulary { pre: None, ..vocabulary() };
    let text = "for.\nIt's 1234567";
    let expected = build(&vocabulary()).expect("a tokenizer").encode(text).expect("ids");
    assert_eq!(build(&unnamed).expect("a tokenizer").encode(text).expect("ids"), expected);
    let gpt_2 = Vocabulary { pre: Some("gpt-2".to_owned()), ..vocabulary() };
    assert_ne!(build(&gpt_2).expect("a tokenizer").encode_as_written(text).expect("ids"), expected[1..]);
}

#[test]
fn begin_and_end_tokens_are_added_where_the_file_says_so() {
    let (begin, end) = (vocabulary().bos.expect("an id"), vocabulary().eos.expect("an id"));
    for (add_bos, add_eos, first, last) in [
        (None, None, true, false),
        (Some(true), Some(true), true, true),
        (Some(false), Some(true), false, true),
        (Some(false), Some(false), false, false),
    ] {
        let ids =
            build(&Vocabulary { add_bos, add_eos, ..vocabulary() }).expect("a tokenizer").encode("a").expect("ids");
        assert_eq!((ids[0] == begin, ids[ids.len() - 1] == end), (first, last), "{ids:?}");
        assert_eq!(ids.len(), 1 + usize::from(first) + usize::from(last));
    }
    // Nothing in the name of a token has a meaning for the template that adds it.
    let mut named = vocabulary();
    named.tokens[begin as usize] = "$A:1 $B".to_owned();
    assert_eq!(build(&named).expect("a tokenizer").encode("a").expect("ids")[0], begin);
}

#[test]
#[allow(clippy::type_complexity)] // changes and what is said of them
fn what_contradicts_itself_is_refused() {
    let change = |change: fn(&mut Vocabulary)| {
        let mut vocabulary = vocabulary();
        change(&mut vocabulary);
        build(&vocabulary).expect_err("refused")
    };
    let cases: &[(fn(&mut Vocabulary), &str)] = &[
        (|v| v.model = "llama".to_owned(), "`tokenizer.ggml.model` is \"llama\"; expected \"gpt2\""),
        (|v| v.model = "none".to_owned(), "no vocabulary"),
        (|v| v.pre = Some("tekken".to_owned()), "`tokenizer.ggml.pre` is \"tekken\"; expected \"llama-bpe\""),
        (|v| v.tokens.clear(), "has 0 tokens; expected 1 to 440"),
        (|v| v.tokens.resize_with(441, String::new), "has 441 tokens; expected 1 to 440"),
        (|v| v.tokens[7] = v.tokens[5].clone(), "the ids 5 and 7 have the same token"),
        (|v| v.token_types = Some(vec![1, 2]), "`tokenizer.ggml.token_type` has 2 values for 4"),
        (|v| v.bos = Some(430), "`tokenizer.ggml.bos_token_id` is 430; expected an id below 4"),
        (|v| v.eos = Some(u32::MAX), "`tokenizer.ggml.eos_token_id` is 4294967295"),
        (|v| v.eot = Some(500), "`tokenizer.ggml.eot_token_id` is 500"),
        (|v| (v.add_bos, v.bos) = (Some(true), None), "`tokenizer.ggml.add_bos_token` is true"),
        (|v| (v.add_eos, v.eos) = (Some(true), None), "`tokenizer.ggml.add_eos_token` is true"),
        (|v| v.merges.push("ab".to_owned()), "is \"ab\"; expected two tokens"),
        (|v| v.merges.push("a b c".to_owned()), "is \"a b c\"; expected two tokens"),
        (
            |v| v.merges[0] = "nowhere a".to_owned(),
            "merge 0 joins \"nowhere\" and \"a\", and the vocabulary has no token \"nowhere\"",
        ),
        // Both are tokens, what they join to is not; it is longer than any token.
        (
            |v| {
                v.tokens[0] = "x".repeat(100);
                v.merges = vec![format!("{0} {0}", v.tokens[0])];
            },
            "and the vocabulary has no token",
        ),
        (
            |v| {
                v.merges.clear();
                v.tokens[0] = "x".repeat(2000);
                v.token_types.as_mut().expect("types")[0] = CONTROL;
            },
            "the special token 0 has 2000 bytes; expected at most 1024",
        ),
    ];
    for (case, said) in cases {
        let message = change(*case);
        assert!(message.starts_with("v.gguf: ") && message.contains(said), "{message}\nexpected {said}");
    }
}

#[test]
fn the_bytes_of_all_special_tokens_are_limited() {
    let tokens: Vec<_> = (0..1100).map(|id| format!("{id:01000}")).collect();
    let vocabulary = Vocabulary {
        model: "gpt2".to_owned(),
        token_types: Some(vec![CONTROL; tokens.len()]),
        tokens,
        ..Vocabulary::default()
    };
    let message = Tokenizer::from_vocabulary(&vocabulary, 2000, "v.gguf".to_owned()).expect_err("refused").to_string();
    assert!(
        message.contains("the special tokens up to 1048 have 1049000 bytes; expected at most 1048576"),
        "{message}"
    );
}

#[test]
fn a_byte_without_a_token_is_an_error_and_not_left_out_of_the_prompt() {
    let mut vocabulary = vocabulary();
    let at = vocabulary.tokens.iter().position(|token| token == "z").expect("a token");
    vocabulary.merges.clear();
    vocabulary.tokens[at].clear();
    let tokenizer = build(&vocabulary).expect("a tokenizer");
    assert!(tokenizer.encode("a").is_ok());
    let message = tokenizer.encode("az").expect_err("no token").to_string();
    assert!(message.contains("no token for the byte 0x7a"), "{message}");
}

#[test]
fn types_that_nobody_knows_and_empty_tokens_do_no_harm() {
    let mut vocabulary = vocabulary();
    vocabulary.tokens.extend([String::new(), String::new()]);
    vocabulary.token_types.as_mut().expect("types").extend([i32::MIN, 77]);
    let tokenizer = build(&vocabulary).expect("a tokenizer");
    assert_eq!(tokenizer.decode(&[u32::try_from(vocabulary.tokens.len() - 1).expect("an id")]).expect("a text"), "");
}
