//! A verdict, a cause, an origin and an exit status never say more than the records show.

use std::fs;
use std::path::Path;

use bitnet_trace::{TraceSession, tap, traced};
use candle_core::{Device, Tensor};
use serde_json::Value;

use crate::said;

/// A trace as a line of JSON a record, or as a session records it.
enum Side {
    Lines(String),
    Recorded(&'static str, Box<dyn Fn()>),
}

impl Side {
    fn write(&self, directory: &Path) {
        match self {
            Self::Lines(lines) => {
                fs::create_dir(directory).expect("made");
                fs::write(directory.join("trace.jsonl"), lines).expect("written");
            }
            Self::Recorded(capture, run) => {
                let session = TraceSession::builder().dir(directory).capture(*capture).start().expect("a session");
                session.in_scope(run);
                session.finish().expect("nothing lost");
            }
        }
    }
}

struct Row {
    what: &'static str,
    sides: [Side; 2],
    arguments: &'static [&'static str],
    /// A tolerance file.
    rules: &'static str,
    /// Verdict, cause and origin of the last pair; a cause as `ratio` or `null`.
    verdict: &'static str,
    cause: &'static str,
    origin: &'static str,
    exit: i32,
}

impl Row {
    fn new(what: &'static str, reference: Side, trace: Side) -> Self {
        let (verdict, null) = ("diverged", "null");
        Self { what, sides: [reference, trace], arguments: &[], rules: "", verdict, cause: null, origin: null, exit: 1 }
    }

    fn check(&self) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
        let paths = [path("reference"), path("trace")];
        self.sides.iter().zip(&paths).for_each(|(side, path)| side.write(Path::new(path)));
        let mut arguments = vec!["diff", &paths[0], &paths[1], "--json"];
        arguments.extend(self.arguments);
        let rules = path("rules.toml");
        if !self.rules.is_empty() {
            fs::write(&rules, self.rules).expect("written");
            arguments.extend(["--tolerance", &rules]);
        }
        let (exit, out, err) = said(&arguments);
        let json: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{}: {out}{err}", self.what));
        let pairs = json["pairs"].as_array().expect("a list");
        let last = pairs.last().expect("a pair");
        let name = |value: &Value| match value {
            Value::String(name) => name.clone(),
            Value::Object(cause) => cause.keys().next().expect("a name").clone(),
            other => other.to_string(),
        };
        let found = (name(&last["verdict"]), name(&last["cause"]), name(&last["origin"]), exit);
        let expected = (self.verdict.to_owned(), self.cause.to_owned(), self.origin.to_owned(), Some(self.exit));
        assert_eq!(found, expected, "{}\n{}", self.what, serde_json::to_string_pretty(last).expect("JSON"));
    }
}

fn digest(seed: u8) -> String {
    format!("{seed:02x}").repeat(32)
}

/// A record of four elements.
fn line(name: &str, blake3: &str, more: &str) -> Side {
    Side::Lines(record(name, blake3, more))
}

fn record(name: &str, blake3: &str, more: &str) -> String {
    format!(
        "{{\"name\":\"{name}\",\"shape\":[4],\"dtype\":\"F32\",\"num_elements\":4,\"rms\":1.0,\"blake3\":\"{blake3}\"{more}}}\n"
    )
}

/// A sketch that has `value` in each of its 64 sums.
fn sketch(value: f32) -> String {
    use base64::Engine;
    let bytes: Vec<u8> = (0..64).flat_map(|_| value.to_le_bytes()).collect();
    format!(",\"sketch\":\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
}

fn tapped(capture: &'static str, values: Vec<f32>) -> Side {
    let count = values.len();
    tapped_as(capture, values, vec![count])
}

fn tapped_as(capture: &'static str, values: Vec<f32>, shape: Vec<usize>) -> Side {
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
    Side::Recorded(capture, Box::new(move || tap("x", &tensor)))
}

/// Token ids in which two places are exchanged.
fn ids(swapped: [usize; 2]) -> Side {
    let mut ids: Vec<i64> = (0..512).map(|id| id * 7 % 509).collect();
    ids.swap(swapped[0], swapped[1]);
    let tensor = Tensor::new(ids, &Device::Cpu).expect("a tensor");
    Side::Recorded("sketch", Box::new(move || tap("ids", &tensor)))
}

fn wave(count: u16) -> Vec<f32> {
    (0..count).map(|i| (f32::from(i) * 0.7).sin() + 0.01).collect()
}

/// One unit in the last place more at one place.
fn one_ulp(mut values: Vec<f32>, at: usize) -> Vec<f32> {
    values[at] = f32::from_bits(values[at].to_bits() + 1);
    values
}

fn one_hot(value: f32) -> Vec<f32> {
    let mut values = vec![0.0; 256];
    values[3] = value;
    values
}

#[traced(stage = "proj", inputs(x))]
fn proj(x: &Tensor, output: &Tensor) -> Tensor {
    let _ = x;
    output.clone()
}

fn not_finite(value: f32, at: usize) -> Vec<f32> {
    let mut values = wave(64);
    values[at] = value;
    values
}

fn mask(hidden: impl Fn(usize, usize) -> bool) -> Vec<f32> {
    (0..64 * 64).map(|at| if hidden(at / 64, at % 64) { f32::MIN } else { 0.0 }).collect()
}

fn integers(blake3: &str, more: &str) -> String {
    record("ids", blake3, more).replace("F32", "I64").replace("\"rms\"", "\"min\":16777217,\"max\":16777219,\"rms\"")
}

fn input(argument: &str, blake3: &str) -> String {
    let more = format!(",\"seq\":0,\"stage\":\"proj\",\"io\":\"in\",\"output\":\"{argument}\"");
    record(&format!("t0/proj.in.{argument}"), blake3, &more)
}

fn weight(blake3: &str, value: f32) -> String {
    record("w", blake3, &format!(",\"io\":\"weight\"{}", sketch(value)))
}

fn requested(stage: &str, blake3: &str, value: f32) -> String {
    record(stage, blake3, &format!(",\"request\":0{}", sketch(value)))
}

/// A call whose input and output have these relative errors.
fn called(input: f32, output: f32) -> Side {
    let off = |by: f32| {
        let values: Vec<f32> = wave(64)
            .into_iter()
            .enumerate()
            .map(|(i, x)| if i % 2 == 0 { x * (1.0 + by) } else { x * (1.0 - by) })
            .collect();
        Tensor::new(values, &Device::Cpu).expect("a tensor")
    };
    let (input, output) = (off(input), off(output));
    Side::Recorded("values", Box::new(move || drop(proj(&input, &output))))
}

#[test]
#[allow(clippy::too_many_lines)] // a table
fn nothing_is_claimed_that_is_not_shown() {
    let (a, b) = (digest(1), digest(2));
    let rows = [
        Row::new("digests that are empty", line("x", "", ""), line("x", "", "")),
        Row::new("digests that are words", line("x", "n/a", ""), line("x", "n/a", "")),
        Row {
            verdict: "within",
            exit: 0,
            ..Row::new(
                "no digests, and sketches that are equal",
                line("x", "", &sketch(0.5)),
                line("x", "", &sketch(0.5)),
            )
        },
        Row {
            arguments: &["--rel-l2", "0"],
            ..Row::new(
                "other digests under equal sketches, and nothing is allowed",
                line("x", &a, &sketch(0.5)),
                line("x", &b, &sketch(0.5)),
            )
        },
        Row::new("two token ids exchanged that no sketch tells apart", ids([0, 0]), ids([0, 76])),
        Row {
            arguments: &["--rel-l2", "0"],
            ..Row::new(
                "one unit in the last place in 20,000 elements",
                tapped("sketch,values", wave(20_000)),
                tapped("sketch,values", one_ulp(wave(20_000), 77)),
            )
        },
        Row::new("a row with one element", tapped("values", one_hot(1.0)), tapped("values", one_hot(0.5))),
        Row::new(
            "a row with one element, by its sketch",
            tapped("sketch", one_hot(1.0)),
            tapped("sketch", one_hot(0.5)),
        ),
        Row::new("two numbers", tapped("values", vec![2.0]), tapped("values", vec![3.0])),
        Row::new("two numbers, by their sketches", tapped("sketch", vec![2.0]), tapped("sketch", vec![-2.0])),
        Row {
            cause: "ratio",
            ..Row::new(
                "a constant factor",
                tapped("values", wave(512)),
                tapped("values", wave(512).into_iter().map(|x| x * 3.0).collect()),
            )
        },
        Row {
            verdict: "shape",
            cause: "reshaped",
            ..Row::new(
                "the same elements in the same order",
                tapped_as("sketch", wave(6), vec![2, 3]),
                tapped_as("sketch", wave(6), vec![3, 2]),
            )
        },
        Row {
            verdict: "shape",
            ..Row::new(
                "dimensions in another order, and nothing says of the elements",
                tapped_as("sketch", wave(64), vec![16, 4]),
                tapped_as("sketch", wave(64).into_iter().map(|x| x + 1.0).collect(), vec![4, 16]),
            )
        },
        Row::new(
            "a small error after one of unknown size",
            Side::Lines(record("a", &a, "") + &record("b", &a, &sketch(1.0))),
            Side::Lines(record("a", &b, "") + &record("b", &b, &sketch(1.001))),
        ),
        Row {
            origin: "before-identical",
            ..Row::new(
                "an error after what is identical",
                Side::Lines(record("a", &a, "") + &record("b", &a, &sketch(1.0))),
                Side::Lines(record("a", &a, "") + &record("b", &b, &sketch(1.5))),
            )
        },
        Row {
            origin: "between",
            ..Row::new(
                "an error after a stage that only one side has",
                Side::Lines(record("a", &a, "") + &record("only", &a, "") + &record("b", &a, &sketch(1.0))),
                Side::Lines(record("a", &a, "") + &record("b", &b, &sketch(1.5))),
            )
        },
        Row {
            origin: "error-was-there",
            ..Row::new("inputs within the tolerance", called(0.0, 0.0), called(9e-6, 1.3e-5))
        },
        Row { origin: "inputs-differ", ..Row::new("inputs that differ", called(0.0, 0.0), called(1e-3, 1e-3)) },
        Row { origin: "inputs-match", ..Row::new("inputs that are identical", called(0.0, 0.0), called(0.0, 1e-3)) },
        Row {
            origin: "gain-jumps",
            ..Row::new("inputs far nearer than the output", called(0.0, 0.0), called(2e-6, 0.2))
        },
        Row {
            verdict: "nonfinite",
            ..Row::new(
                "an infinite element and a NaN, by sketches",
                tapped("sketch", not_finite(f32::INFINITY, 3)),
                tapped("sketch", not_finite(f32::NAN, 3)),
            )
        },
        Row {
            exit: 2,
            ..Row::new(
                "infinite elements, whose places and signs no sketch tells",
                tapped("sketch", not_finite(f32::INFINITY, 3)),
                tapped("sketch", not_finite(f32::NEG_INFINITY, 3)),
            )
        },
        Row::new(
            "masks of the largest number, which no sketch holds",
            tapped("sketch", mask(|row, column| column > row)),
            tapped("sketch", mask(|row, column| column > row || column + 8 < row)),
        ),
        Row {
            exit: 2,
            verdict: "only-trace",
            ..Row::new("a record and a repeat", line("x", &a, ""), line("x#1", &a, ""))
        },
        Row {
            exit: 2,
            ..Row::new(
                "integers that f32 does not tell apart, with a digest of their own on one side",
                Side::Lines(integers(&a, &format!(",\"raw_blake3\":\"{b}\""))),
                Side::Lines(integers(&a, "")),
            )
        },
        Row {
            origin: "null",
            ..Row::new(
                "an input that only one side has",
                Side::Lines(input("mask", &a) + &input("x", &a) + &record("t0/proj", &a, &sketch(1.0))),
                Side::Lines(input("x", &a) + &record("t0/proj", &b, &sketch(2.0))),
            )
        },
        Row {
            origin: "error-was-there",
            ..Row::new(
                "a weight that differs, and a request that begins like the other",
                Side::Lines(weight(&a, 1.0) + &requested("emb", &a, 1.0) + &requested("q", &a, 1.0)),
                Side::Lines(weight(&b, 2.0) + &requested("emb", &a, 1.0) + &requested("q", &b, 2.0)),
            )
        },
        Row {
            rules: "[[rule]]\nrel_l2 = 1e-2\nmax_abs = 1e-3\n",
            ..Row::new("`max_abs` without values", line("x", &a, &sketch(1.0)), line("x", &b, &sketch(1.000_01)))
        },
        Row {
            arguments: &["--only-common"],
            verdict: "identical",
            exit: 2,
            ..Row::new(
                "lines that cannot be read",
                Side::Lines("garbage\n".repeat(9) + &record("x", &a, "")),
                line("x", &a, ""),
            )
        },
        Row {
            arguments: &["--only-common"],
            verdict: "identical",
            exit: 0,
            ..Row::new(
                "a record of one side, where only common ones count",
                Side::Lines(record("w", &a, "") + &record("x", &a, "")),
                line("x", &a, ""),
            )
        },
        Row {
            verdict: "identical",
            ..Row::new(
                "a record of one side",
                Side::Lines(record("w", &a, "") + &record("x", &a, "")),
                line("x", &a, ""),
            )
        },
        Row { verdict: "only-trace", exit: 2, ..Row::new("nothing in common", line("x", &a, ""), line("y", &a, "")) },
    ];
    rows.iter().for_each(Row::check);
}

/// Digests that differ beside values that are equal: some file is not the record's, and nobody knows which.
#[test]
fn values_that_are_not_those_of_their_digest_prove_nothing() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    for name in ["reference", "trace"] {
        tapped("values", wave(64)).write(&path(name));
    }
    let record = path("trace").join("x.trace");
    let text = fs::read_to_string(&record).expect("readable");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let hash = json["blake3"].as_str().expect("a digest");
    fs::write(&record, text.replace(hash, &digest(7))).expect("written");
    let [reference, trace] = ["reference", "trace"].map(|name| path(name).to_str().expect("UTF-8").to_owned());
    for arguments in [vec!["diff", &reference, &trace], vec!["diff", &reference, &trace, "--rel-l2", "0"]] {
        let (exit, out, err) = said(&arguments);
        assert!(exit == Some(2) && out.contains("the digests are not"), "{exit:?} {out}{err}");
    }
}

#[test]
fn the_largest_names_and_numbers_are_shown() {
    let long = "n".repeat(70_000);
    let repeated = record("x", &digest(1), ",\"call\":18446744073709551615").repeat(2);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let reference = record(&long, &digest(1), "") + &repeated + &record("y", &digest(1), "");
    fs::write(path("a.jsonl"), reference).expect("written");
    fs::write(path("b.jsonl"), repeated + &record("y", &digest(2), "")).expect("written");
    let (exit, out, err) = said(&["diff", &path("a.jsonl"), &path("b.jsonl"), "--all"]);
    assert!(exit == Some(1) && out.contains("first divergence  y  diverged"), "{exit:?} {err}");
}
