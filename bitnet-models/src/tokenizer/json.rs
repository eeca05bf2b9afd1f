//! Checks of a `tokenizer.json` before the library reads it: what it takes for granted, and would panic over.

use std::borrow::Cow;
use std::collections::HashSet;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::added::Added;
use super::{merges, pieces};

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: Option<Model<'a>>,
    #[serde(borrow)]
    added_tokens: Option<Vec<AddedToken<'a>>>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
}

#[derive(Deserialize)]
struct AddedToken<'a> {
    id: u32,
    #[serde(borrow)]
    content: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    merges: Option<Vec<Merge<'a>>>,
    #[serde(borrow, default)]
    vocab: Vocabulary<'a>,
    continuing_subword_prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge<'a> {
    Pair(#[serde(borrow)] (Cow<'a, str>, Cow<'a, str>)),
    Text(#[serde(borrow)] Cow<'a, str>),
}

/// The tokens of an object; of the list that a Unigram model has, only their bytes.
#[derive(Default)]
struct Vocabulary<'a> {
    tokens: HashSet<Cow<'a, str>>,
    listed_bytes: usize,
}

/// Most bytes of the tokens of a Unigram model: the library makes a tree of them that takes some 100 times as much
/// memory. The 250,000 of XLM-R have 2 MB.
const MOST_LISTED_BYTES: usize = 16 << 20;

/// A key that is borrowed where it has no escapes; `Cow` alone always copies.
#[derive(Deserialize, PartialEq, Eq, Hash)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Vocabulary<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tokens;

        impl<'de> Visitor<'de> for Tokens {
            type Value = Vocabulary<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("tokens")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut tokens = HashSet::new();
                while let Some((Key(token), IgnoredAny)) = map.next_entry()? {
                    tokens.insert(token);
                }
                Ok(Vocabulary { tokens, listed_bytes: 0 })
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut listed_bytes = 0;
                while let Some((Key(token), IgnoredAny)) = seq.next_element()? {
                    listed_bytes += token.len();
                }
                Ok(Vocabulary { tokens: HashSet::new(), listed_bytes })
            }
        }

        deserializer.deserialize_any(Tokens)
    }
}

/// Says what the library would panic over.
pub(super) fn check(json: &[u8]) -> Result<(), String> {
    // A parser that skips a value does not look at the bytes of its texts.
    let json = std::str::from_utf8(json).map_err(|error| format!("not a tokenizer: {error}"))?;
    let file: File<'_> = serde_json::from_str(json).map_err(|error| format!("not a tokenizer: {error}"))?;
    if let Some(Model { merges: Some(merges), vocab, continuing_subword_prefix }) = &file.model {
        let prefix = continuing_subword_prefix.as_deref().unwrap_or_default();
        for (index, merge) in merges.iter().enumerate() {
            let parts = match merge {
                Merge::Pair((left, right)) => (&**left, &**right),
                Merge::Text(text) => merges::parts(index, text)?,
            };
            merges::check(index, parts, prefix, |token| vocab.tokens.contains(token))?;
        }
    }
    if let Some(Model { vocab: Vocabulary { listed_bytes, .. }, .. }) = &file.model
        && *listed_bytes > MOST_LISTED_BYTES
    {
        return Err(format!("the tokens of the model have {listed_bytes} bytes; expected at most {MOST_LISTED_BYTES}"));
    }
    let mut added = Added::default();
    for token in file.added_tokens.iter().flatten() {
        added.count(token.id, &token.content)?;
    }
    file.normalizer.as_ref().map_or(Ok(()), pieces::check_normalizer)?;
    file.pre_tokenizer.as_ref().map_or(Ok(()), pieces::check_pre_tokenizer)?;
    file.decoder.as_ref().map_or(Ok(()), pieces::check_decoder)?;
    file.post_processor.as_ref().map_or(Ok(()), check_post_processor)
}

/// Most pieces of a template, and most ids of one of its special tokens. Published ones have up to 4.
const MOST_PIECES: usize = 64;

/// A template for one text may only use that text, once, and special tokens that it defines.
fn check_post_processor(processor: &Value) -> Result<(), String> {
    let list = |key: &str| processor[key].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts = list("single").iter().filter(|piece| piece.get("Sequence").is_some()).count();
    if texts > 1 {
        return Err(format!("post_processor.single repeats the text {texts} times; expected once"));
    }
    let ids = processor["special_tokens"].as_object().into_iter().flatten();
    let ids = ids.map(|(_, token)| token["ids"].as_array().map_or(0, Vec::len));
    if let Some(count) = ids.chain([list("single").len()]).find(|count| *count > MOST_PIECES) {
        return Err(format!("post_processor has a list of {count} pieces or ids; expected at most {MOST_PIECES}"));
    }
    for inner in list("processors") {
        check_post_processor(inner)?;
    }
    for piece in list("single") {
        if let Some(id) = piece["Sequence"]["id"].as_str().filter(|id| *id != "A") {
            return Err(format!("post_processor.single uses the text {id:?}; expected \"A\""));
        }
        if let Some(id) =
            piece["SpecialToken"]["id"].as_str().filter(|id| processor["special_tokens"].get(id).is_none())
        {
            return Err(format!("post_processor.special_tokens has no {id:?}, which post_processor.single uses"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::tokenizer::Tokenizer;

    /// The fixture with a change, and what is said of it.
    fn refused(change: impl FnOnce(&mut Value)) -> String {
        let mut tokenizer: Value = serde_json::from_str(include_str!("../../tests/text/tokenizer.json")).expect("JSON");
        change(&mut tokenizer);
        let read = Tokenizer::from_json(tokenizer.to_string().as_bytes(), "t.json".to_owned());
        read.expect_err("refused").to_string()
    }

    /// Each of these is a panic in the library, at the latest when a text is encoded.
    #[test]
    fn what_the_library_takes_for_granted_is_refused() {
        let long = "x".repeat(100);
        let message = refused(|json| {
            json["model"]["vocab"][&long] = json!(1000);
            json["model"]["merges"] = json!([[long, long]]);
        });
        assert!(message.starts_with("t.json: merge 0 joins "), "{message}");
        let message = refused(|json| json["model"]["merges"] = json!(["a b c"]));
        assert!(message.contains("merge 0 is \"a b c\""), "{message}");
        let message = refused(|json| json["model"]["continuing_subword_prefix"] = json!("##"));
        assert!(message.contains("does not begin with \"##\""), "{message}");
        let template =
            |single: Value| json!({"type": "TemplateProcessing", "single": single, "pair": [], "special_tokens": {}});
        let message = refused(|json| {
            json["post_processor"] = template(json!([{"Sequence": {"id": "B", "type_id": 0}}]));
        });
        assert!(message.contains("post_processor.single uses the text \"B\""), "{message}");
        let message = refused(|json| {
            let inner = template(json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}]));
            json["post_processor"] = json!({"type": "Sequence", "processors": [inner]});
        });
        assert!(message.contains("special_tokens has no \"<s>\""), "{message}");
    }

    #[test]
    fn a_prompt_is_not_repeated_and_gets_few_special_tokens() {
        let template = |single: Vec<Value>, ids: Vec<u32>| {
            json!({"type": "TemplateProcessing", "single": single, "pair": [],
                   "special_tokens": {"<s>": {"id": "<s>", "ids": ids, "tokens": vec!["<s>"; ids.len()]}}})
        };
        let (text, token) =
            (json!({"Sequence": {"id": "A", "type_id": 0}}), json!({"SpecialToken": {"id": "<s>", "type_id": 0}}));
        let twice = template(vec![text.clone(), text.clone()], vec![1]);
        let message =
            refused(|json| json["post_processor"] = json!({"type": "Sequence", "processors": vec![twice; 40]}));
        assert!(message.contains("post_processor.single repeats the text 2 times"), "{message}");
        for long in [template(vec![token.clone(); 65], vec![1]), template(vec![token, text], vec![1; 65])] {
            let message = refused(|json| json["post_processor"] = long);
            assert!(message.contains("65 pieces or ids; expected at most 64"), "{message}");
        }
    }

    #[test]
    fn the_bytes_of_tokens_are_limited() {
        let added = |content: String, id: u32| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        };
        let message = refused(|json| json["added_tokens"] = json!([added("x".repeat(1025), 7)]));
        assert!(message.contains("the special token 7 has 1025 bytes; expected at most 1024"), "{message}");
        let many: Vec<_> = (0..1100u32).map(|id| added(format!("{id:01000}"), id)).collect();
        let message = refused(|json| json["added_tokens"] = many.into());
        assert!(
            message.contains("the special tokens up to 1048 have 1049000 bytes; expected at most 1048576"),
            "{message}"
        );
        let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": [["x".repeat((16 << 20) + 1), 0.0]]});
        let message = refused(|json| json["model"] = unigram);
        assert!(message.contains("the tokens of the model have 16777217 bytes"), "{message}");
    }

    #[test]
    fn what_is_no_tokenizer_is_refused() {
        for text in ["", "{", "[]", "{}", "null", "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}"] {
            let message = Tokenizer::from_json(text.as_bytes(), "t.json".to_owned()).expect_err(text).to_string();
            assert!(message.starts_with("t.json: not a tokenizer: "), "{message}");
        }
    }

    /// Texts that are only skipped are not looked at; the library's decoder panics over them.
    #[test]
    fn a_decoder_that_is_no_json_is_refused() {
        for decoder in
            [&b"{\"typ\xea\": \"Fuse\"}"[..], b"{\"type\": \"\\ud800\"}", b"{\"type\": 1e999}", b"{\"type\": "]
        {
            let text = [b"{\"decoder\": ", decoder, b", \"model\": null}"].concat();
            let message = Tokenizer::from_json(&text, "t.json".to_owned()).expect_err("refused").to_string();
            assert!(message.starts_with("t.json: not a tokenizer: "), "{message}");
        }
    }

    /// Padding and truncation are for batches of training data.
    #[test]
    fn a_prompt_is_neither_padded_nor_truncated() {
        let mut tokenizer: Value = serde_json::from_str(include_str!("../../tests/text/tokenizer.json")).expect("JSON");
        tokenizer["truncation"] =
            json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
        tokenizer["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": null, "pad_id": 0,
                                      "pad_type_id": 0, "pad_token": "!"});
        let changed = Tokenizer::from_json(tokenizer.to_string().as_bytes(), "t.json".to_owned()).expect("a tokenizer");
        let json = include_bytes!("../../tests/text/tokenizer.json");
        let plain = Tokenizer::from_json(json, "t.json".to_owned()).expect("a tokenizer");
        let text = "The tracer records every tensor";
        assert_eq!(changed.encode(text).expect("ids"), plain.encode(text).expect("ids"));
    }
}
