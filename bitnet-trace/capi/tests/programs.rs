//! A program in C, compiled as C and as C++ without a warning, records through the ABI: the test vectors, sessions and
//! threads, and nonsense. valgrind finds nothing to complain about.
#![cfg(unix)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use bitnet_trace_core::Trace;
use serde_json::Value;
use tempfile::TempDir;

/// The compilers, each with the language in which it reads the program.
const LANGUAGES: [(&str, &[&str]); 2] =
    [("cc", &["-std=c11", "-D_POSIX_C_SOURCE=200809L"]), ("c++", &["-x", "c++", "-std=c++17"])];

fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compiles the program and links it with the static library, which cargo built beside this test.
fn compiled(directory: &Path, compiler: &str, flags: &[&str]) -> PathBuf {
    let deps = std::env::current_exe().expect("a path").parent().expect("a folder").to_owned();
    let library = deps.join("libbitnet_trace_capi.a");
    assert!(library.exists(), "{} is missing", library.display());
    let program = directory.join(compiler);
    let output = Command::new(compiler)
        .args(flags)
        .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-I"])
        .arg(package().join("include"))
        .arg(package().join("tests/programs/program.c"))
        .args(["-x", "none"])
        .arg(library)
        .args(["-lm", "-lpthread", "-ldl", "-o"])
        .arg(&program)
        .output();
    succeeded(output.unwrap_or_else(|error| panic!("{compiler}: {error}")));
    program
}

fn succeeded(output: Output) -> Output {
    assert!(output.status.success(), "{}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    output
}

fn run(program: &Path, arguments: &[&str], input: &[u8], environment: &[(&str, &Path)]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("BITNET_TRACE_DIR").env("BITNET_TRACE_FORMAT", "jsonl");
    command.envs(environment.iter().copied()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    child.stdin.take().expect("its input").write_all(input).expect("it reads its input");
    succeeded(child.wait_with_output().expect("the program ends"))
}

/// For every compiler: the program in a directory of its own.
fn each(test: impl Fn(&Path, &Path)) {
    for (compiler, flags) in LANGUAGES {
        let directory = TempDir::new().expect("a directory");
        test(&compiled(directory.path(), compiler, flags), directory.path());
    }
}

#[test]
fn the_test_vectors_pass() {
    let text = fs::read_to_string(package().join("../core/vectors/vectors.json")).expect("the vectors");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("the format of the script");
    assert!(cases.len() > 60);
    let input: Vec<u8> = cases.iter().flat_map(described).collect();
    each(|program, directory| {
        let trace = directory.join("trace");
        run(program, &["record"], &input, &[("BITNET_TRACE_DIR", &trace)]);
        let trace = Trace::open(&trace).expect("a trace");
        assert_eq!(trace.records().len(), cases.len());
        for (record, case) in trace.records().iter().zip(&cases) {
            let expected = &case["expected"];
            assert_eq!(Some(record.name.as_str()), case["name"].as_str());
            assert_eq!(Some(record.dtype.as_str()), case["dtype"].as_str());
            assert_eq!(Some(record.blake3.as_str()), expected["blake3"].as_str(), "{}", record.name);
            assert_eq!(record.raw_blake3.as_deref(), expected["raw_blake3"].as_str(), "{}", record.name);
            let sketch = record.sketch.as_ref().map(serde_json::to_value).and_then(Result::ok);
            assert_eq!(sketch.as_ref(), Some(&expected["sketch"]), "{}", record.name);
            let number = |value: &Value| value.as_str().map(|text| u64::from_str_radix(text, 16).expect("hex digits"));
            for (found, key) in [(record.mean, "mean"), (record.min, "min"), (record.max, "max")] {
                assert_eq!(found.map(f64::to_bits), number(&expected[key]), "{} {key}", record.name);
            }
            let rms = (!record.rms.is_nan()).then(|| record.rms.to_bits());
            assert_eq!(rms, number(&expected["rms"]), "{} rms", record.name);
        }
    });
}

/// A case in the form that the program reads.
fn described(case: &Value) -> Vec<u8> {
    let numbers = |key: &str| -> Option<Vec<i64>> {
        Some(case[key].as_array()?.iter().map(|number| number.as_i64().expect("a number")).collect())
    };
    let names = ["F32", "F16", "BF16", "F64", "F8E4M3", "F8E5M2", "U8", "I16", "U32", "I32", "I64"];
    let dtype = names.iter().position(|name| case["dtype"] == *name).expect("a known type");
    let width = [4, 2, 2, 8, 1, 1, 1, 2, 4, 4, 8][dtype];
    let storage = storage(case, width);
    let (dims, strides) = (numbers("shape").expect("a shape"), numbers("strides"));
    let name = case["name"].as_str().expect("a name");
    let count = |count: usize| i64::try_from(count).expect("it is small");
    let offset = case["offset"].as_i64().unwrap_or(0);
    let has_strides = i64::from(strides.is_some());
    let head =
        [count(dtype), count(dims.len()), offset, count(width), count(storage.len()), has_strides, count(name.len())];
    let numbers = head.into_iter().chain(dims).chain(strides.into_iter().flatten());
    let mut bytes: Vec<u8> = numbers.flat_map(i64::to_ne_bytes).collect();
    bytes.extend(name.bytes());
    bytes.extend(storage);
    bytes
}

/// The bytes of a vector's storage, by the rules of `make_vectors.py`.
fn storage(case: &Value, width: usize) -> Vec<u8> {
    let stored = &case["storage"];
    let patterns: Vec<u64> = if let Some(listed) = stored["hex"].as_array() {
        listed.iter().map(|text| u64::from_str_radix(text.as_str().expect("hex"), 16).expect("hex digits")).collect()
    } else {
        let (seed, count) = (stored["seed"].as_u64().expect("a seed"), stored["count"].as_u64().expect("a count"));
        let generator = stored["generator"].as_str().expect("a generator");
        (0..count).map(|index| generated(generator, width, splitmix64((seed << 32) + index))).collect()
    };
    patterns.iter().flat_map(|pattern| pattern.to_le_bytes().into_iter().take(width)).collect()
}

#[allow(clippy::cast_precision_loss)] // 24 bits
fn generated(generator: &str, width: usize, x: u64) -> u64 {
    let unit = (x >> 40) as f32 / 16_777_216.0 * 2.0 - 1.0;
    match (generator, width) {
        ("bits", _) => x,
        ("finite", 8) => x & !(1 << 62),
        ("finite", 4) => x & !(1 << 30),
        ("wide", _) if x.is_multiple_of(71) => u64::from((-0f32).to_bits()),
        ("wide", _) if x.is_multiple_of(67) => 0,
        ("wide", _) if x.is_multiple_of(61) => u64::from((unit * 50.0).to_bits()),
        ("unit" | "wide", _) => u64::from(unit.to_bits()),
        other => panic!("{other:?}"),
    }
}

fn splitmix64(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[test]
fn sessions_scopes_and_threads() {
    each(|program, directory| {
        let (first, second) = (directory.join("first"), directory.join("second"));
        let arguments = ["sessions", first.to_str().expect("UTF-8"), second.to_str().expect("UTF-8")];
        run(program, &arguments, &[], &[]);
        let trace = Trace::open(&first).expect("a trace");
        let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["t0/blk3/q_proj", "t0/blk3/q_turned", "t0/logits", "in_thread"]);
        let [q, turned, logits, _] = trace.records() else { panic!("{names:?}") };
        assert_eq!((q.seq_index, q.layer_idx, q.stage.as_deref()), (Some(0), Some(3), Some("q_proj")));
        assert_eq!((q.shape.as_slice(), turned.shape.as_slice()), (&[2, 3][..], &[3, 2][..]));
        assert_ne!(q.blake3, turned.blake3);
        assert_eq!((logits.tokens, logits.request), (Some([5, 7]), Some(9)));
        assert_eq!((q.tokens, q.request), (None, None));
        let other = Trace::open(&second).expect("a trace");
        assert_eq!((other.records().len(), other.records()[0].name.as_str()), (1, "Qcur-0"));
        assert_eq!(other.records()[0].blake3, q.blake3);
        let manifest: Value = serde_json::from_slice(&fs::read(first.join("run.json")).expect("it")).expect("JSON");
        assert_eq!(manifest["annotations"]["prompt"], "1+1=");
        assert_eq!(manifest["annotations"]["prompt_tokens"], serde_json::json!([1, 17, 200]));
    });
}

/// What `run.json` says of an argument that was refused.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Refusal {
    cause: String,
    count: u64,
    first: String,
}

impl Refusal {
    fn new(argument: &str, count: u64, why: &str) -> Self {
        let cause = format!("bt_record refused `{argument}`");
        Self { first: format!("{cause}: {why}"), cause, count }
    }

    fn of(loss: &Value) -> Self {
        let text = |key: &str| loss[key].as_str().expect("a text").to_owned();
        Self { cause: text("cause"), count: loss["count"].as_u64().expect("a count"), first: text("first") }
    }
}

#[test]
fn a_forked_process_does_not_end_the_run_of_its_parent() {
    each(|program, directory| {
        let trace = directory.join("trace");
        run(program, &["forked"], &[], &[("BITNET_TRACE_DIR", &trace)]);
        let manifest: Value = serde_json::from_slice(&fs::read(trace.join("run.json")).expect("it")).expect("JSON");
        assert_eq!(manifest["complete"], false, "{manifest:#}");
        assert_eq!(Trace::open(&trace).expect("a trace").records().len(), 2);
    });
}

#[test]
fn nonsense_is_an_error_and_the_program_goes_on() {
    each(|program, directory| {
        let trace = directory.join("trace");
        let output = run(program, &["nonsense", trace.to_str().expect("UTF-8")], &[], &[]);
        let said = String::from_utf8_lossy(&output.stderr);
        // Each argument has one count in `run.json` and one warning, however many calls it was wrong in.
        let manifest: Value = serde_json::from_slice(&fs::read(trace.join("run.json")).expect("it")).expect("JSON");
        assert_eq!(manifest["lost"], 14, "{manifest:#}");
        let mut losses: Vec<_> = manifest["losses"].as_array().expect("a list").iter().map(Refusal::of).collect();
        losses.sort();
        let expected = [
            ("data", 1, "`data` is NULL for a tensor of dimensions [2, 2]"),
            ("dims", 4, "`dims` is NULL, but `n_dims` is not 0"),
            ("dtype", 2, "`dtype` is 99; expected a `bt_dtype`, 0 to 10"),
            ("n_dims", 2, "`n_dims` is -1; expected 0 to 16"),
            ("name", 2, "a record needs a `name` or a `stage`"),
            ("strides", 3, "`strides` holds -2; copy such a tensor to row-major order first"),
        ];
        assert_eq!(losses, expected.map(|(argument, count, why)| Refusal::new(argument, count, why)), "{manifest:#}");
        assert_eq!(said.matches("warning").count(), expected.len(), "{said}");
        for loss in &losses {
            assert!(said.contains(&loss.first), "{said}");
        }
        let trace = Trace::open(&trace).expect("a trace");
        let names: Vec<_> = trace.records().iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["unaligned", "empty", "scalar", "aligned"]);
        assert_eq!(trace.records()[0].blake3, trace.records()[3].blake3);
    });
}

#[test]
fn valgrind_is_content() {
    let required = std::env::var_os("REQUIRE_VALGRIND").is_some();
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert!(!required, "valgrind is missing");
        println!("SKIPPED: valgrind is not installed");
        return;
    }
    each(|program, directory| {
        let [a, b, c] = ["a", "b", "c"].map(|name| directory.join(name).to_str().expect("UTF-8").to_owned());
        for arguments in [vec!["sessions", &a, &b], vec!["nonsense", &c]] {
            let mut command = Command::new("valgrind");
            command.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
            command.arg(program).args(arguments).env_remove("BITNET_TRACE_DIR").stdin(Stdio::null());
            succeeded(command.output().expect("valgrind starts"));
        }
    });
}
