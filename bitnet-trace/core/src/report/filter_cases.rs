//! The page has a filter of its own, written in JavaScript. It must give the same answers and the same errors as
//! the filter of the command: both are tested with one file of cases (the page by `tests/browser`).

use serde::Deserialize;

use crate::record::filter::{Filter, Rest, Subject};

#[derive(Deserialize)]
struct Cases {
    records: Vec<Record>,
    /// A filter, and for every record 1 if the filter takes it, else 0.
    answers: Vec<(String, Vec<u8>)>,
    /// A filter, and the error that it gives.
    errors: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Record {
    stage: Option<String>,
    io: String,
    name: String,
    layer: Option<usize>,
    seq: Option<usize>,
    /// A text, because JavaScript's numbers do not hold every 64-bit integer.
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
