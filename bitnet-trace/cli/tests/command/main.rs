//! The command `bitnet-trace` as a user runs it.

mod evidence;
mod hostile;
mod init;
mod single;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bitnet_trace::{Trace, TraceContext, TraceSession, tap};
use candle_core::{DType, Device, Tensor};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet-trace"));
    command.args(arguments).env_remove("NO_COLOR").output().expect("it starts")
}

/// Exit status, standard output, standard error.
fn said(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = run(arguments);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Three traces: a reference, one that matches, one that does not.
struct Traces(tempfile::TempDir);

impl Traces {
    fn new() -> Self {
        let traces = Self(tempfile::tempdir().expect("a temporary directory"));
        for (name, factor) in [("reference", 1.0), ("same", 1.0), ("other", 1.5)] {
            traces.record(name, factor, "files");
        }
        traces
    }

    fn record(&self, name: &str, factor: f64, format: &str) {
        let session =
            TraceSession::builder().dir(self.0.path().join(name)).capture("sketch,values").format(format).start();
        let session = session.expect("a session");
        session.in_scope(|| {
            let _step = TraceContext::seq(0).enter();
            tap("embeddings", &x(1.0));
            for layer in 0..2 {
                let _layer = TraceContext::layer(layer).enter();
                tap("attn_norm", &x(1.0 + f64::from(u32::try_from(layer).expect("small"))));
                tap("q_proj", &x(if layer == 1 { factor } else { 1.0 } * 3.0));
            }
        });
        session.finish().expect("nothing lost");
        bitnet_trace::flush();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

fn x(factor: f64) -> Tensor {
    Tensor::new(&[[0.5f32, -1.0, 2.0], [0.25, 3.0, -4.0]], &Device::Cpu).and_then(|x| x * factor).expect("a tensor")
}

#[test]
fn diff_says_where_and_ends_with_0_1_or_2() {
    let traces = Traces::new();
    let (reference, same, other) = (traces.path("reference"), traces.path("same"), traces.path("other"));
    let (code, out, _) = said(&["diff", &reference, &same]);
    assert_eq!((code, out.contains("match: no divergence")), (Some(0), true), "{out}");
    let (code, out, err) = said(&["diff", &reference, &other]);
    assert_eq!(code, Some(1), "{out}{err}");
    for expected in
        ["first divergence  t0/blk1/q_proj  diverged", "max abs 6", "[1, 2]: reference -12, trace -18", "caused here"]
    {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    assert!(!out.contains('\u{1b}'), "no colours but on a terminal");
    assert_eq!(said(&["diff", &reference, &other, "--rel-l2", "0.6"]).0, Some(0));
    let (code, out, _) = said(&["diff", &reference, &other, "--all"]);
    assert!(code == Some(1) && out.contains("t0/blk0/attn_norm  identical"), "{out}");
    let (code, out, _) = said(&["diff", &reference, &other, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, json["pairs"].as_array().map(Vec::len), &json["first"]), (Some(1), Some(5), &4.into()));
    assert_eq!(json["pairs"][4]["verdict"], "diverged");
    for (arguments, expected) in [
        (vec!["diff", &reference, &reference], "on both sides"),
        (vec!["diff", &reference, "/no/such/trace"], "/no/such/trace"),
        (vec!["diff", &reference], "required"),
        (vec!["diff", &reference, &other, "--map", "nonsense"], "expected `hf`, `llama.cpp`"),
        (vec!["diff", &reference, &other, "--rel-l2", "-1"], "-1"),
        (vec!["diff", &reference, &other, "--tolerance", "/no/such/file"], "/no/such/file"),
    ] {
        let (code, _, err) = said(&arguments);
        assert!(code == Some(2) && err.contains(expected), "{arguments:?}: {code:?} {err}");
    }
}

#[test]
fn json_begins_with_the_version_of_its_format() {
    let traces = Traces::new();
    let (_, out, _) = said(&["diff", &traces.path("reference"), &traces.path("other"), "--json"]);
    assert!(out.starts_with(r#"{"schema":"bitnet-trace/diff/1","#), "{out}");
    let (_, out, _) = said(&["verify", &traces.path("reference"), "--json"]);
    assert!(out.starts_with("{\n  \"schema\": \"bitnet-trace/verify/1\",\n"), "{out}");
}

#[test]
fn ls_names_inputs_and_weights_as_their_records_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("trace.jsonl");
    let fields = r#""shape":[2],"dtype":"F32","num_elements":2,"rms":1.0,"blake3":"00""#;
    let lines = [
        format!(r#"{{"name":"t0/rope.in.q","stage":"rope","io":"in","output":"q","seq":0,{fields}}}"#),
        format!(r#"{{"name":"model.norm.weight","io":"weight",{fields}}}"#),
    ];
    fs::write(&path, lines.join("\n")).expect("written");
    let (_, out, err) = said(&["ls", path.to_str().expect("UTF-8")]);
    let stages: Vec<_> = out.lines().skip(1).filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(stages, ["rope.in.q", "model.norm.weight"], "{out}{err}");
}

#[test]
fn ls_filters_and_sorts() {
    let traces = Traces::new();
    let (code, out, err) = said(&["ls", &traces.path("other"), "--filter", "stage=q_*,layer=1"]);
    assert_eq!((code, out.lines().count(), err.as_str()), (Some(0), 2, ""), "{out}");
    let (_, out, _) = said(&["ls", &traces.path("other"), "--json", "--sort", "rms"]);
    let rms: Vec<f64> = out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["rms"].as_f64().expect("a number"))
        .collect();
    assert!(rms.len() == 5 && rms.is_sorted_by(|a, b| a >= b), "{rms:?}");
    let (code, _, err) = said(&["ls", &traces.path("other"), "--filter", "stag=x"]);
    assert!(code == Some(2) && err.contains("unknown key `stag`"), "{err}");
}

#[test]
fn show_prints_fields_values_and_a_histogram() {
    let traces = Traces::new();
    let (code, out, err) = said(&["show", &traces.path("reference"), "t0/blk1/q_proj", "--slice", "1,:2"]);
    assert_eq!(code, Some(0), "{err}");
    for expected in ["stage         q_proj", "[0.7500, 9.0000]", "######", "num_elements  6"] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    assert_eq!(said(&["show", &traces.path("reference"), "@0", "--json"]).0, Some(0));
    let (code, _, err) = said(&["show", &traces.path("reference"), "q_proj"]);
    assert!(code == Some(2) && err.contains("there is t0/blk0/q_proj"), "{err}");
    for slice in ["9", "1,2,3", "x", "2:1"] {
        let (code, _, err) = said(&["show", &traces.path("reference"), "@0", "--slice", slice]);
        assert!(code == Some(2) && err.contains(slice.split(',').next().expect("a part")), "{slice}: {err}");
    }
}

#[test]
fn verify_finds_what_is_wrong() {
    let traces = Traces::new();
    let trace = traces.path("other");
    // In this process the run goes on; as it would look after its end:
    let run = Path::new(&trace).join("run.json");
    let ended = fs::read_to_string(&run).expect("readable").replace("\"complete\": false", "\"complete\": true");
    fs::write(&run, ended).expect("written");
    let (code, out, _) = said(&["verify", &trace]);
    assert_eq!((code, out.contains("5 records, the values of 5 checked")), (Some(0), true), "{out}");
    let record = Trace::open(&trace).expect("readable").records()[1].clone();
    let values = PathBuf::from(&trace).join(record.values.expect("captured"));
    let changed = x(7.0);
    candle_core::safetensors::save(&std::collections::HashMap::from([("x", changed)]), &values).expect("written");
    fs::remove_file(Path::new(&trace).join("t0_embeddings.trace")).expect("removed");
    let (code, out, _) = said(&["verify", &trace]);
    assert_eq!(code, Some(1), "{out}");
    for expected in
        ["attn_norm: its values have the hash", "5 records were written", "1 records are missing from the order"]
    {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    let (code, out, _) = said(&["verify", &trace, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, json["findings"].as_array().map(Vec::len)), (Some(1), Some(3)), "{out}");
    assert_eq!(said(&["verify", "/no/such/trace"]).0, Some(2));
}

#[test]
fn convert_keeps_everything() {
    let traces = Traces::new();
    let (source, lines, files) = (traces.path("reference"), traces.path("lines"), traces.path("files"));
    assert_eq!(said(&["convert", &source, &lines, "--format", "jsonl"]).0, Some(0));
    assert_eq!(said(&["convert", &lines, &files, "--format", "files"]).0, Some(0));
    let (a, b) = (Trace::open(&source).expect("readable"), Trace::open(&files).expect("readable"));
    assert_eq!(a.records(), b.records());
    for record in b.records() {
        assert!(b.values(record).expect("readable").is_some(), "{}", record.name);
    }
    assert!(Path::new(&lines).join("trace.jsonl").exists() && Path::new(&lines).join("run.json").exists());
    assert_eq!(said(&["diff", &source, &lines]).0, Some(0));
    let table = traces.path("table.csv");
    assert_eq!(said(&["convert", &source, &table, "--format", "csv"]).0, Some(0));
    let table = fs::read_to_string(&table).expect("written");
    assert!(
        table.lines().count() == 6 && table.lines().nth(2).is_some_and(|line| line.contains("t0/blk0/attn_norm")),
        "{table}"
    );
    let (code, _, err) = said(&["convert", &source, &files, "--format", "files"]);
    assert!(code == Some(2) && err.contains("files"), "{err}");
}

#[test]
fn completions_and_help_are_there() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = said(&["completions", shell]);
        assert!(code == Some(0) && out.contains("bitnet-trace"), "{shell}");
    }
    assert_eq!(said(&["--help"]).0, Some(0));
    for command in ["init", "diff", "report", "ls", "show", "verify", "convert"] {
        let (code, out, _) = said(&[command, "--help"]);
        let has = |text: &str| out.contains(text) || out.contains(&text.to_lowercase());
        assert!(code == Some(0) && has("Example") && has("Exit codes"), "{command}: {out}");
    }
    assert_eq!(said(&["nonsense"]).0, Some(2));
}

#[test]
fn verify_checks_every_field_of_the_digest() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let session = TraceSession::builder().dir(dir.path()).capture("sketch,rows,values").format("jsonl").start();
    let session = session.expect("a session");
    let ramp = || Tensor::arange(-3f32, 21.0, &Device::Cpu).and_then(|x| x.reshape((4, 6))).expect("a tensor");
    session.in_scope(|| {
        for dtype in [
            DType::F64,
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::F8E4M3,
            DType::I64,
            DType::I32,
            DType::I16,
            DType::U32,
            DType::U8,
        ] {
            tap(&format!("{dtype:?}"), &ramp().to_dtype(dtype).expect("converted"));
        }
        tap("nan", &ramp().log().expect("a logarithm"));
        tap("empty", &ramp().narrow(0, 0, 0).expect("nothing"));
    });
    session.finish().expect("nothing lost");
    let path = dir.path().join("trace.jsonl");
    let trace = path.to_str().expect("UTF-8");
    let (code, out, _) = said(&["verify", trace]);
    assert_eq!((code, out.as_str()), (Some(0), "12 records, the values of 12 checked\n"));
    let lines = fs::read_to_string(&path).expect("readable");
    let double = lines.lines().next().expect("a line");
    for field in
        ["dtype", "blake3", "raw_blake3", "rms", "min", "max", "mean", "zero_count", "nan_count", "sketch", "rows"]
    {
        let mut record: serde_json::Value = serde_json::from_str(double).expect("JSON");
        record["order"] = 0.into();
        record[field] = match &record[field] {
            serde_json::Value::String(_) => "F16".into(),
            serde_json::Value::Array(_) => serde_json::json!(["00"]),
            _ => 5.into(),
        };
        fs::write(&path, record.to_string()).expect("written");
        let (code, out, _) = said(&["verify", trace]);
        let expected =
            if field == "dtype" { "the type F64, their record says F16" } else { "wrong: F64: its values have" };
        assert!(code == Some(1) && out.contains(expected), "{field}: {out}");
    }
}

#[test]
fn convert_keeps_every_process() {
    let traces = Traces::new();
    let process = PathBuf::from(traces.path("reference")).join("p7");
    fs::rename(traces.path("other"), &process).expect("moved");
    let (source, lines, files) = (traces.path("reference"), traces.path("lines"), traces.path("files"));
    assert_eq!(said(&["convert", &source, &lines, "--format", "jsonl"]).0, Some(0));
    assert_eq!(said(&["convert", &lines, &files, "--format", "files"]).0, Some(0));
    let (a, b) = (Trace::open(&source).expect("readable"), Trace::open(&files).expect("readable"));
    assert_eq!((a.records(), a.records().len()), (b.records(), 10));
    for place in ["", "p7"] {
        let run = |of: &str| -> serde_json::Value {
            let json = fs::read(Path::new(of).join(place).join("run.json")).expect("run.json");
            serde_json::from_slice(&json).expect("JSON")
        };
        assert_eq!((run(&source)["started"].is_string(), &run(&source)), (true, &run(&files)), "{place}");
    }
    let (_, out, _) = said(&["verify", &files]);
    assert!(out.contains("10 records, the values of 10 checked") && !out.contains("twice"), "{out}");
}

/// candle's conversion from F8E4M3 to f64 never returns.
#[test]
fn show_ends_for_every_type() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let session = TraceSession::builder().dir(dir.path()).capture("values").start().expect("a session");
    session.in_scope(|| tap("x", &x(1.0).to_dtype(DType::F8E4M3).expect("converted")));
    session.finish().expect("nothing lost");
    let trace = dir.path().to_str().expect("UTF-8");
    let (code, out, err) = said(&["show", trace, "@0", "--json", "--slice", "1"]);
    assert!(code == Some(0) && out.contains("-4.0"), "{out}{err}");
    let (code, out, err) = said(&["show", trace, "@0"]);
    assert!(code == Some(0) && out.contains("######"), "{out}{err}");
}

#[test]
fn show_gives_a_slice_as_json() {
    let traces = Traces::new();
    let (code, out, err) = said(&["show", &traces.path("reference"), "@0", "--json", "--slice", "-1,::2"]);
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let expected = serde_json::json!({ "shape": [2], "elements": [0.25, -4.0] });
    assert_eq!((code, &json["slice"], &json["stage"]), (Some(0), &expected, &"embeddings".into()), "{err}");
}

#[test]
fn a_report_is_one_page() {
    let traces = Traces::new();
    let page = traces.path("diff.html");
    let (code, _, err) = said(&["report", &traces.path("reference"), &traces.path("other"), "-o", &page]);
    assert_eq!(code, Some(1), "{err}");
    let html = fs::read_to_string(&page).expect("written");
    assert!(html.starts_with("<!doctype html>") && html.contains("t0") && html.contains("q_proj"));
    assert!(!html.contains("http://") && !html.contains("https://"), "it asks no network for anything");
}

/// Two programs that are compared have a map each.
#[test]
fn maps_add_up() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |file: &str, name: &str| {
        let path = directory.path().join(file);
        let hash = "ab".repeat(32);
        let record =
            format!(r#"{{"name":"{name}","shape":[2],"dtype":"F32","num_elements":2,"rms":1.0,"blake3":"{hash}"}}"#);
        fs::write(&path, record).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    };
    let (module, node) = (write("a.jsonl", "model.layers.7.mlp.down_proj"), write("b.jsonl", "ffn_out-7"));
    let diff = |maps: &[&str]| {
        let maps = maps.iter().flat_map(|map| ["--map", map]);
        said(&["diff", &module, &node].into_iter().chain(maps).collect::<Vec<_>>())
    };
    assert_eq!(diff(&["hf"]).0, Some(2));
    assert_eq!(diff(&["llama.cpp"]).0, Some(2));
    let (code, out, err) = diff(&["hf", "llama.cpp"]);
    assert!(code == Some(0) && out.contains("match"), "{out}{err}");
    let (code, _, err) = diff(&["hf", "nonsense"]);
    assert!(code == Some(2) && err.contains("expected `hf`, `llama.cpp`"), "{err}");
}
