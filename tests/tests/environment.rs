//! The environment's variables and what they do.

use std::path::Path;
use std::process::{Command, Output};

use bitnet_trace::{ToTensor, Trace, TraceRecord};
use bitnet_trace_tests::{manifest, names, succeed};
use candle_core::{DType, Device, Tensor};

fn scenario(variables: &[(&str, &str)], steps: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scenario"));
    command.args(steps).env_remove("BITNET_TRACE_DIR").envs(variables.iter().copied());
    command
}

fn run(directory: &Path, variables: &[(&str, &str)], steps: &[&str]) -> Output {
    succeed(scenario(variables, steps).env("BITNET_TRACE_DIR", directory))
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn records(directory: &Path) -> Vec<TraceRecord> {
    let trace = Trace::open(directory).expect("a trace");
    assert!(trace.problems().is_empty(), "{:?}", trace.problems());
    trace.records().to_vec()
}

#[test]
fn lines_hold_what_files_hold() {
    let (files, lines) = (directory(), directory());
    let steps = ["steps 3", "types", "dump x"];
    run(files.path(), &[("BITNET_TRACE_FORMAT", "files")], &steps);
    run(lines.path(), &[("BITNET_TRACE_FORMAT", "jsonl")], &steps);
    assert_eq!(names(lines.path()), Vec::<String>::new());
    assert_eq!(records(files.path()).len(), 3 * 5 + 10 + 1);
    assert_eq!(records(files.path()), records(lines.path()));
    assert_eq!(manifest(lines.path())["format"], "jsonl");
    // One file of the trace can be read, too.
    let trace = Trace::open(lines.path().join("trace.jsonl")).expect("the file alone");
    assert_eq!(trace.records(), records(lines.path()));
}

#[test]
fn a_filter_takes_what_it_says() {
    for format in ["files", "jsonl"] {
        let dir = directory();
        let filter = "stage=q_*,layer=1;stage=logits,seq=0-1";
        run(dir.path(), &[("BITNET_TRACE_FILTER", filter), ("BITNET_TRACE_FORMAT", format)], &["steps 3", "dump x"]);
        let found: Vec<_> = records(dir.path()).into_iter().map(|record| record.name).collect();
        assert_eq!(found, ["t0/blk1/q_proj", "t0/logits", "t1/blk1/q_proj", "t1/logits", "t2/blk1/q_proj"]);
        assert_eq!(manifest(dir.path())["filter"], filter);
    }
}

#[test]
fn captures_are_added_each_with_its_filter() {
    let dir = directory();
    let capture = "rows(stage=logits),values(stage=q_proj;layer=0)";
    run(dir.path(), &[("BITNET_TRACE_CAPTURE", capture)], &["steps 1"]);
    let found: Vec<_> = records(dir.path())
        .iter()
        .map(|record| (record.name.clone(), record.sketch.is_some(), record.rows.is_some(), record.values.is_some()))
        .collect();
    assert_eq!(
        found,
        [
            ("t0/blk0/q_proj".to_owned(), false, false, true),
            ("t0/blk0/double".to_owned(), false, false, true),
            ("t0/blk1/q_proj".to_owned(), false, false, true),
            ("t0/blk1/double".to_owned(), false, false, false),
            ("t0/logits".to_owned(), false, true, false),
        ]
    );
    assert_eq!(manifest(dir.path())["capture"], capture);
}

#[test]
fn the_sketch_is_there_unless_told_otherwise() {
    let (default, none) = (directory(), directory());
    run(default.path(), &[], &["traced 1"]);
    run(none.path(), &[("BITNET_TRACE_CAPTURE", "none")], &["traced 1"]);
    // 64 floats in base64.
    assert_eq!(records(default.path())[0].sketch.as_ref().map(String::len), Some(344));
    assert_eq!(records(none.path())[0].sketch, None);
    assert_eq!(records(none.path())[0].blake3, records(default.path())[0].blake3);
}

#[test]
fn values_are_read_back_in_their_own_type() {
    for format in ["files", "jsonl"] {
        let dir = directory();
        run(dir.path(), &[("BITNET_TRACE_CAPTURE", "values"), ("BITNET_TRACE_FORMAT", format)], &["types", "types"]);
        let trace = Trace::open(dir.path()).expect("a trace");
        assert_eq!(trace.records().len(), 20);
        for record in trace.records() {
            let values = trace.values(record).expect("readable").expect("values");
            assert_eq!((&values.shape[..], values.dtype.name()), (&[10, 10][..], &*record.dtype));
            let values = values.to_tensor(&Device::Cpu).expect("candle has the type");
            // The ramp column by column, as in the strided tensor. The eight-bit float keeps three bits
            // of the mantissa and rounds.
            let column = Tensor::arange_step(1f32, 121.0, 12.0, values.device()).expect("a column");
            let first = values.get(0).and_then(|row| row.to_dtype(DType::F32)).expect("the first row");
            let expected =
                column.to_dtype(values.dtype()).and_then(|column| column.to_dtype(DType::F32)).expect("rounded");
            assert_eq!(
                first.to_vec1::<f32>().expect("floats"),
                expected.to_vec1::<f32>().expect("floats"),
                "{}",
                record.name
            );
        }
        // A second capture of one name does not overwrite the first.
        assert!(dir.path().join("values/F32#1.safetensors").exists());
    }
}

#[test]
fn a_session_reads_its_values_back() {
    let dir = directory();
    let session = bitnet_trace::TraceSession::builder().dir(dir.path()).capture("values").format("jsonl").start();
    let session = session.expect("a session");
    let x = Tensor::new(&[1f32, 2.0], &candle_core::Device::Cpu).expect("a tensor");
    session.in_scope(|| bitnet_trace::tap("x", &x));
    let trace = session.finish().expect("nothing lost");
    let values = trace.values(&trace.records()[0]).expect("readable").expect("values");
    assert_eq!((values.to_f64(), &values.shape[..]), (vec![1.0, 2.0], &[2][..]));
}

#[test]
fn values_outside_the_directory_are_refused() {
    let dir = directory();
    run(dir.path(), &[("BITNET_TRACE_CAPTURE", "values")], &["traced 1"]);
    let trace = Trace::open(dir.path()).expect("a trace");
    for outside in ["../x", "/etc/passwd", "values/../../x"] {
        let mut record = trace.records()[0].clone();
        record.values = Some(outside.to_owned());
        let error = trace.values(&record).expect_err("refused").to_string();
        assert!(error.contains("not a path inside"), "{error}");
    }
}

#[test]
fn printing_works_without_a_directory() {
    let output = succeed(&mut scenario(&[("BITNET_TRACE_PRINT", "stage=logits")], &["steps 2"]));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].starts_with("t0/logits [3] F32 rms=") && lines[1].starts_with("t1/logits "), "{said}");
    assert!(lines[0].contains("scenario.rs"), "{said}");
}

#[test]
fn printing_has_a_filter_of_its_own() {
    let dir = directory();
    let variables = [("BITNET_TRACE_PRINT", "all"), ("BITNET_TRACE_FILTER", "stage=logits")];
    let output = run(dir.path(), &variables, &["steps 1"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 5);
    assert_eq!(records(dir.path()).len(), 1);
}

#[test]
fn the_directory_takes_process_and_rank() {
    let dir = directory();
    let template = dir.path().join("%p-%r-%%-%x");
    let mut command = scenario(&[("RANK", "3")], &["traced 1"]);
    let child = command.env("BITNET_TRACE_DIR", &template).spawn().expect("it starts");
    let id = child.id();
    assert!(child.wait_with_output().expect("it ends").status.success());
    assert_eq!(names(&dir.path().join(format!("{id}-3-%-%x"))), ["double"]);
}

#[test]
fn a_wrong_value_is_told_once_and_turns_tracing_off() {
    for (variable, value, allowed) in [
        ("BITNET_TRACE_FORMAT", "xml", "`files` or `jsonl`"),
        ("BITNET_TRACE_FILTER", "stag=x", "unknown key `stag`, did you mean `stage`? Expected one of: stage,"),
        (
            "BITNET_TRACE_FILTER",
            "io=input",
            "unknown io `input`, did you mean `in`? Expected one of: in, out, let, weight, grad",
        ),
        ("BITNET_TRACE_CAPTURE", "everything", "`sketch`, `rows`, `values`"),
        ("BITNET_TRACE_PRINT", "layer=x", "\"x\" is not a number"),
        ("BITNET_TRACE_STRICT", "yes", "`0` or `1`"),
    ] {
        let dir = directory();
        let traces = dir.path().join("traces");
        let output = run(&traces, &[(variable, value)], &["sum", "traced 5"]);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "sum 4\n");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(variable) && said.contains(value) && said.contains(allowed), "{said}");
        assert!(!traces.exists());
        // dump_trace returns the same error to its caller.
        let output =
            scenario(&[(variable, value)], &["dump x"]).env("BITNET_TRACE_DIR", &traces).output().expect("it starts");
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(allowed), "{output:?}");
    }
}

#[test]
fn strict_aborts_with_the_cause() {
    let dir = directory();
    let mut command = scenario(&[("BITNET_TRACE_STRICT", "1")], &["traced 1", "unrecordable", "sum"]);
    let output = command.env("BITNET_TRACE_DIR", dir.path()).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(said.contains("F4") && said.contains("BITNET_TRACE_STRICT"), "{said}");
    // The earlier records are there, and the run is not complete.
    assert_eq!((names(dir.path()).len(), manifest(dir.path())["complete"].as_bool()), (1, Some(false)));
    let mut command = scenario(&[("BITNET_TRACE_STRICT", "1"), ("BITNET_TRACE_FORMAT", "xml")], &["traced 1"]);
    assert!(!command.env("BITNET_TRACE_DIR", dir.path()).output().expect("it starts").status.success());
}

#[test]
fn a_line_that_is_none_is_named_and_the_rest_read() {
    let dir = directory();
    run(dir.path(), &[("BITNET_TRACE_FORMAT", "jsonl")], &["traced 3"]);
    let file = dir.path().join("trace.jsonl");
    let whole = std::fs::read_to_string(&file).expect("the lines");
    let mut lines: Vec<&str> = whole.lines().collect();
    let half = &lines[1][..lines[1].len() / 2];
    lines[1] = half;
    std::fs::write(&file, lines.join("\n")).expect("written");
    let trace = Trace::open(dir.path()).expect("the rest");
    assert_eq!(trace.records().len(), 2);
    let problem = trace.problems()[0].to_string();
    assert!(problem.contains("trace.jsonl: not a record: line 2"), "{problem}");
}

#[test]
fn a_variable_that_means_nothing_is_told_once_with_the_nearest_name() {
    for (variable, part) in [
        ("BITNET_TRACE_FILTR", "did you mean BITNET_TRACE_FILTER?"),
        ("BITNET_TRACE_REFERENCE", "not supported by this version"),
        ("BITNET_TRACE_SUBSTITUTE", "not supported by this version"),
    ] {
        let dir = directory();
        let output = run(dir.path(), &[(variable, "x")], &["traced 2", "dump y", "traced 1"]);
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(said.lines().count() == 1 && said.contains(variable) && said.contains(part), "{said}");
        assert_eq!(records(dir.path()).len(), 4, "everything else goes on");
    }
    // This matters most if it is the directory's variable: then nothing is recorded at all.
    let output = succeed(&mut scenario(&[("BITNET_TRACE_DIRECTORY", "x")], &["traced 2", "sum"]));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.lines().count() == 1 && said.contains("did you mean BITNET_TRACE_DIR?"), "{said}");
}

#[test]
fn run_json_says_what_decides_about_the_numbers() {
    let dir = directory();
    run(dir.path(), &[("RAYON_NUM_THREADS", "3"), ("OMPI_COMM_WORLD_RANK", "2")], &["traced 1"]);
    let run = manifest(dir.path());
    // The manifest holds candle's own count, not the number of processors.
    assert_eq!((run["threads"].as_u64(), run["rank"].as_u64()), (Some(3), Some(2)), "{run}");
    let features = run["features"].as_array().expect("a list");
    assert!(features.contains(&"trace".into()) && features.contains(&"read".into()), "{run}");
    let alone = directory();
    assert!(self::run(alone.path(), &[], &["traced 1"]).stderr.is_empty());
    assert!(manifest(alone.path())["rank"].is_null());
}

#[test]
fn printed_lines_of_several_processes_do_not_mix() {
    const EACH: usize = 300;
    let file = tempfile::NamedTempFile::new().expect("a file");
    let children: Vec<_> = (0..4)
        .map(|_| {
            let to = std::fs::File::options().append(true).open(file.path()).expect("the file");
            let mut command = scenario(&[("BITNET_TRACE_PRINT", "all")], &[&format!("traced {EACH}")]);
            command.stderr(to).spawn().expect("it starts")
        })
        .collect();
    for mut child in children {
        assert!(child.wait().expect("it ends").success());
    }
    let said = std::fs::read_to_string(file.path()).expect("the lines");
    let whole = |line: &&str| {
        line.starts_with("double [3] F32 rms=") && line.ends_with(" double") && line.matches("rms=").count() == 1
    };
    assert_eq!(said.lines().filter(whole).count(), 4 * EACH, "{said}");
}
