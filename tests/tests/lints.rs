//! The compiler and clippy (`all` and `pedantic`) report the same for an annotated crate as for the plain one.
//! They report nothing more; with the feature on they lack only three lints of clippy's.

use std::collections::BTreeSet;

use bitnet_trace_tests::package::{ON, Package, fixture, with_locals, without_macros};
use bitnet_trace_tests::succeed;
use serde_json::Value;

/// The lints that are lost with the feature on, and how often. They look at a whole function: whether it awaits,
/// which future it returns, and whether everything that it returns is wrapped. The expanded function returns what
/// the library hands back. The last one is lost only for an `async fn`.
const KNOWN: [(&str, usize); 3] =
    [(" clippy::unused_async:", 1), (" clippy::unnecessary_wraps:", 1), (" clippy::missing_errors_doc:", 3)];

/// The lints that are lost besides where `locals` is on: a variable that is recorded is used, and a binding that is
/// followed by a statement is not returned at once.
const KNOWN_WITH_LOCALS: [(&str, usize); 3] =
    [(" clippy::let_and_return:", 3), (" unused_assignments:", 1), (" unused_variables:", 1)];

/// A lint, its message, and its place: first line and column, last line and column.
type Diagnostic = (String, String, [u64; 4]);

/// The reports, sorted; a report that comes twice is listed twice.
fn diagnostics(package: &Package, source: &str, features: &[&str]) -> Vec<Diagnostic> {
    package.write("lib.rs", source);
    let mut command = package.cargo("clippy");
    command.args(features).arg("--message-format=json");
    // Both crates are linted with the same groups: a lint that this compiler lacks is missing for both.
    command.args(["--", "--cap-lints=warn", "-Wclippy::all", "-Wclippy::pedantic", "-Wmissing_docs"]);
    let output = succeed(&mut command);
    let lines = String::from_utf8(output.stdout).expect("UTF-8");
    let messages = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let of_package = messages
        .filter(|message| message["reason"] == "compiler-message" && message["target"]["name"] == package.name());
    let mut diagnostics: Vec<_> = of_package
        .filter_map(|message| {
            let message = &message["message"];
            let lint = message["code"]["code"].as_str()?.to_owned();
            let span = message["spans"].as_array()?.iter().find(|span| span["is_primary"] == true)?;
            let place = ["line_start", "column_start", "line_end", "column_end"];
            let place = place.map(|key| span[key].as_u64().unwrap_or_default());
            Some((lint, message["message"].as_str()?.to_owned(), place))
        })
        .collect();
    diagnostics.sort();
    diagnostics
}

fn lints(diagnostics: &[Diagnostic]) -> BTreeSet<&str> {
    diagnostics.iter().map(|(lint, _, _)| lint.as_str()).collect()
}

#[test]
fn nothing_is_added_and_nothing_is_lost() {
    let source = fixture("lints/lib.rs");
    let many = "let _ = 0;".to_owned() + &"\n    let _ = 0;".repeat(101);
    let source = source.replace("LINES", &many);
    let plain = without_macros(&source);
    let package = Package::new(env!("CARGO_TARGET_TMPDIR"), "lints", "2024");
    let expected = diagnostics(&package, &plain, &[]);
    assert!(lints(&expected).len() > 40, "the fixture provokes lints of every kind: {:?}", lints(&expected));

    let off = diagnostics(&package, &source, &[]);
    assert_eq!(differences(&expected, &off), [""; 0]);
    let on = diagnostics(&package, &source, &ON);
    assert_known(&differences(&expected, &on), &KNOWN);
    let with_locals = diagnostics(&package, &with_locals(&source), &ON);
    assert_known(&differences(&expected, &with_locals), &[&KNOWN[..], &KNOWN_WITH_LOCALS].concat());
}

/// Nothing is added, and what is lost is known.
fn assert_known(found: &[String], known: &[(&str, usize)]) {
    let is_known = |line: &str, lint: &str| line.starts_with("lost") && line.contains(lint);
    let beyond = |line: &&String| !known.iter().any(|(lint, _)| is_known(line, lint));
    assert_eq!(found.iter().filter(beyond).collect::<Vec<_>>(), [""; 0]);
    for (lint, times) in known {
        let lost = found.iter().filter(|line| is_known(line, lint)).count();
        assert_eq!(lost, *times, "{lint} is not lost as often as is known: {found:?}");
    }
}

/// The reports that are added and lost, one a line.
fn differences(expected: &[Diagnostic], found: &[Diagnostic]) -> Vec<String> {
    let beyond = |what: &'static str, these: &[Diagnostic], those: &[Diagnostic]| {
        let mut rest = those.to_vec();
        let mut lines = Vec::new();
        for diagnostic in these {
            if let Some(at) = rest.iter().position(|other| other == diagnostic) {
                rest.swap_remove(at);
            } else {
                let (lint, message, [row, column, ..]) = diagnostic;
                lines.push(format!("{what} {row}:{column} {lint}: {message}"));
            }
        }
        lines
    };
    [beyond("added", found, expected), beyond("lost", expected, found)].concat()
}
