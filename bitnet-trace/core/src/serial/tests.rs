//! What the macro writes does the same as what serde's derive writes, error messages included.

use serde::{Deserialize, Serialize};
use serde_core::de::DeserializeOwned;

#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    #[serde(with = "Wrapped")]
    offset: i32,
    #[serde(alias = "seq", default, skip_serializing_if = "Option::is_none")]
    seq_index: Option<usize>,
    #[serde(default, skip_serializing_if = "is_zero")]
    call: usize,
    #[serde(default)]
    mean: Option<f64>,
    side: Side,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Side {
    BothSides,
}

/// Is read and written in the place of a field.
#[derive(Serialize, Deserialize)]
struct Wrapped(i32);

impl Wrapped {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
    fn serialize<S: serde::Serializer>(offset: &i32, serializer: S) -> Result<S::Ok, S::Error> {
        Serialize::serialize(&Self(*offset), serializer)
    }

    fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
        Ok(<Self as Deserialize>::deserialize(deserializer)?.0)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(call: &usize) -> bool {
    *call == 0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    rule: Vec<toml::Spanned<Rule>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with the keys of a rule")]
struct Rule {
    stage: String,
    limit: Option<f64>,
}

#[derive(Deserialize)]
struct Borrowed<'a> {
    name: &'a str,
}

/// The same types, with tables in place of the derives.
mod tables {
    use super::{Side as DerivedSide, Wrapped};

    pub(super) struct Record {
        name: String,
        offset: i32,
        seq_index: Option<usize>,
        call: usize,
        mean: Option<f64>,
        side: DerivedSide,
    }

    impl_serde! {
        Serialize, Deserialize for Record {
            name, offset as Wrapped, seq_index or "seq" [optional], call [optional], mean [default], side,
        }
    }

    #[derive(Clone, Copy)]
    pub(super) enum Side {
        BothSides,
    }

    impl_serde! { Serialize for enum Side { BothSides = "both-sides" } }

    pub(super) struct Rules {
        rule: Vec<toml::Spanned<Rule>>,
    }

    impl_serde! { Deserialize for Rules, deny_unknown_fields { rule [default] } }

    pub(super) struct Rule {
        stage: String,
        limit: Option<f64>,
    }

    impl_serde! { Serialize for Rule { stage, limit } }
    impl_serde! {
        Deserialize for Rule, deny_unknown_fields, expecting = "a table with the keys of a rule" {
            stage, limit [default],
        }
    }

    impl_serde! { Serialize for Rules { rule } }

    pub(super) struct Borrowed<'a> {
        pub(super) name: &'a str,
    }

    impl_serde! { Deserialize for Borrowed<'a> { name } }

    pub(super) struct Skipping {
        pub(super) written: usize,
        pub(super) kept: usize,
    }

    impl_serde! { Serialize for Skipping { written, kept [skip] } }
}

/// What a text becomes when it is read and written again, or the error.
fn again<T: Serialize, E: ToString>(read: Result<T, E>) -> Result<[String; 2], String> {
    let value = read.map_err(|error| error.to_string())?;
    Ok([serde_json::to_string(&value).expect("JSON"), serde_json::to_string_pretty(&value).expect("JSON")])
}

fn json<T: Serialize + DeserializeOwned>(text: &str) -> Result<[String; 2], String> {
    again(serde_json::from_str::<T>(text))
}

fn toml<T: Serialize + DeserializeOwned>(text: &str) -> Result<[String; 2], String> {
    again(toml::from_str::<T>(text))
}

#[test]
fn records_are_read_and_written_as_with_the_derive() {
    let all = r#""name":"a","offset":-2,"seq_index":0,"call":0,"mean":null,"side":"both-sides""#;
    let written = r#"{"name":"a","offset":-2,"seq_index":0,"mean":null,"side":"both-sides"}"#;
    assert_eq!(json::<tables::Record>(&format!("{{{all}}}")).expect("a record")[0], written);
    let fields: Vec<_> = all.split(',').collect();
    let mut texts = vec![String::new(), "{}".to_owned(), "null".to_owned(), "7".to_owned(), "\"a\"".to_owned()];
    for (at, field) in fields.iter().enumerate() {
        let (key, _) = field.split_once(':').expect("a key");
        let mut without = fields.clone();
        without.remove(at);
        texts.push(format!("{{{}}}", without.join(",")));
        texts.push(format!("{{{all},{field}}}"));
        for value in [
            "null",
            "1",
            "-1",
            "1.5",
            "\"x\"",
            "\"\\n\"",
            "[]",
            "[1]",
            "{}",
            "true",
            "1e999",
            "{\"both-sides\":null}",
            "",
            "nul",
        ] {
            texts.push(format!("{{{},{key}:{value}}}", without.join(",")));
        }
    }
    let values = [r#""a""#, "1", "0", "2", "null", r#""both-sides""#, "7"];
    texts.extend((0..=values.len()).map(|count| format!("[{}]", values[..count].join(","))));
    for more in [r#""seq":1"#, r#""seq":null"#, r#""unknown":{"a":[1]}"#, r#""unknown":"#, r#""":0"#, "1:0"] {
        texts.push(format!("{{{all},{more}}}"));
        texts.push(format!(r#"{{"name":"a","offset":0,"side":"both-sides",{more}}}"#));
    }
    for text in &texts {
        assert_eq!(json::<tables::Record>(text), json::<Record>(text), "{text}");
    }
}

#[test]
fn rules_are_read_as_with_the_derive() {
    let texts = [
        "",
        "rule = 1",
        "rule = []",
        "rule = [1]",
        "rule = {}",
        "[[rule]]",
        "[[rule]]\nlimit = 1",
        "[[rules]]",
        "[[rule]]\nstage = \"a\"",
        "[[rule]]\nstage = \"a\"\nlimit = 0.5",
        "[[rule]]\nstage = \"a\"\nlimits = 0.5",
        "[[rule]]\nstage = 1",
        "[[rule]]\nstage = \"a\"\nlimit = \"b\"",
        "x = 1",
        "rule = [\"a\", {}]",
        "rule = [[]]",
        "rule = [[\"a\", 1]]",
        "[rule]",
    ];
    for text in texts {
        assert_eq!(toml::<tables::Rules>(text), toml::<Rules>(text), "{text}");
    }
    let refused = toml::<tables::Rules>("[[rule]]\nlimits = 0.5").expect_err("an unknown key");
    assert!(refused.contains("unknown field `limits`, expected `stage` or `limit`"), "{refused}");
}

#[test]
fn names_of_variants_are_written_as_with_the_derive() {
    let expected = serde_json::to_string(&Side::BothSides).expect("JSON");
    assert_eq!(serde_json::to_string(&tables::Side::BothSides).expect("JSON"), expected);
    assert_eq!(expected, "\"both-sides\"");
}

#[test]
fn texts_are_borrowed_as_with_the_derive() {
    let json = r#"{"name":"a"}"#;
    let found: tables::Borrowed<'_> = serde_json::from_str(json).expect("a name");
    let expected: Borrowed<'_> = serde_json::from_str(json).expect("a name");
    assert_eq!(found.name.as_ptr(), expected.name.as_ptr());
}

#[test]
fn fields_that_are_skipped_are_not_written() {
    let json = serde_json::to_string(&tables::Skipping { written: 1, kept: 2 }).expect("JSON");
    assert_eq!(json, r#"{"written":1}"#);
}
