//! The page has the filter of the command, written in its own language: one file of cases holds both to the
//! same answers and the same errors (the page by `tests/browser`).

use serde::Deserialize;

use crate::record::filter::{Filter, Rest, Subject};

#[derive(Deserialize)]
struct Cases {
    records: Vec<Record>,
    /// A filter, and for every record whether it takes it.
    answers: Vec<(String, Vec<u8>)>,
    /// A filter, and what is wrong with it.
    errors: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Record {
    stage: Option<String>,
    io: String,
    name: String,
    layer: Option<usize>,
    seq: Option<usize>,
    /// A text, as a script's numbers do not hold all of 64 bits.
    request: Option<String>,
}

#[test]
fn the_filter_of_the_page_is_that_of_the_command() {
    let cases: Cases = serde_json::from_str(include_str!("filter_cases.json")).expect("cases");
    for (text, expected) in &cases.answers {
        let filter = Filter::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        let takes = |record: &Record| {
            let request = record.request.as_ref().map(|request| request.parse().expect("a number"));
            let rest = Rest { name: &record.name, layer: record.layer, seq: record.seq, request };
            let subject = Subject { stage: record.stage.as_deref(), io: &record.io, rest: Some(rest) };
            u8::from(filter.accepts(&subject).expect("all is known"))
        };
        assert_eq!(&cases.records.iter().map(takes).collect::<Vec<_>>(), expected, "{text:?}");
    }
    for (text, expected) in &cases.errors {
        assert_eq!(&Filter::parse(text).expect_err(text), expected, "{text:?}");
    }
}
