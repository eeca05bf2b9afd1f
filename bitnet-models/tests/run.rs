//! `bitnet run` as a user sees it: the answer, the trace, and the messages about bad input.
//!
//! The tests are built with and without the feature `trace`; those that need a trace ask for the feature.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn bitnet(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.arg("run").args(arguments).env_remove("BITNET_TRACE_DIR");
    command
}

fn run(arguments: &[&str]) -> Output {
    bitnet(arguments).output().expect("bitnet starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// The message of a run that must fail without a panic.
fn refused(arguments: &[&str]) -> String {
    let output = run(arguments);
    let message = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert!(!output.status.success(), "{arguments:?} is accepted: {output:?}");
    assert!(!message.contains("panicked"), "{message}");
    assert!(output.stdout.is_empty(), "{output:?}");
    message
}

/// The reference's tiny checkpoint: 256 ids, a context of 128, no tokenizer.
fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/hf-bitnet-tiny/offline_float32")
}

/// A copy of it that a test may damage.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a temporary directory");
    for file in ["config.json", "model.safetensors"] {
        fs::copy(fixture().join(file), copy.path().join(file)).expect("copied");
    }
    copy
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_embedded_model_adds() {
    let output = run(&["--prompt", "12+34="]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output), "46\n");
}

#[test]
fn ids_in_ids_out() {
    let fixture = fixture();
    let output = run(&["--model", path(&fixture), "--tokens", "1,17,200", "--max-new-tokens", "3", "--ignore-eos"]);
    let ids = stdout(&output);
    assert_eq!(ids.trim_end().split(',').filter(|id| id.parse::<u32>().is_ok()).count(), 3, "{output:?}");
}

#[test]
fn json_for_programs() {
    let output = run(&["--prompt", "1+1=", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
    assert_eq!(json["text"], "2");
    assert_eq!(json["prompt_tokens"].as_array().map(Vec::len), Some(4));
    assert!(json["trace"].is_null());
}

#[test]
fn a_draw_is_repeated_by_its_seed() {
    let draw = |seed: &str| {
        stdout(&run(&[
            "--prompt",
            "1+",
            "--temperature",
            "5",
            "--seed",
            seed,
            "--ignore-eos",
            "--max-new-tokens",
            "20",
        ]))
    };
    assert_eq!(draw("1"), draw("1"));
    assert_ne!(draw("1"), draw("2"));
}

#[test]
fn generation_stops_where_the_context_ends() {
    let output = run(&["--tokens", "1,1,1", "--max-new-tokens", "1000", "--ignore-eos"]);
    assert!(output.status.success(), "{output:?}");
    // 64 positions, and one token after the last position.
    assert_eq!(stdout(&output).trim_end().split(',').count(), 64 - 3 + 1);
}

/// A trace directory whose `run.json` annotates this.
fn reference(annotations: &serde_json::Value) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = serde_json::json!({ "schema": "bitnet-trace/run/1", "annotations": annotations });
    fs::write(directory.path().join("run.json"), run.to_string()).expect("written");
    directory
}

/// The JSON that a run of these arguments prints, and what it says on standard error.
fn json_of(arguments: &[&str]) -> (serde_json::Value, String) {
    let output = run(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    (serde_json::from_str(&stdout(&output)).expect("one JSON object"), said)
}

#[test]
fn forced_tokens_are_decoded_and_the_choices_are_kept_apart() {
    let (own, _) = json_of(&["--prompt", "12+34=", "--max-new-tokens", "3"]);
    assert!(own.get("chosen_tokens").is_none(), "{own}");
    let prompt = &own["prompt_tokens"];
    let free: Vec<u64> = own["tokens"].as_array().expect("ids").iter().filter_map(serde_json::Value::as_u64).collect();
    // The same tokens change nothing.
    let same = reference(&serde_json::json!({ "prompt_tokens": prompt, "generated_tokens": free }));
    let (forced, said) = json_of(&["--prompt", "12+34=", "--force", path(same.path())]);
    assert_eq!((&forced["tokens"], &forced["chosen_tokens"], &*said), (&own["tokens"], &own["tokens"], ""));
    // Others are decoded, an end token does not end them, and what the model would have chosen after them is told.
    let others = [free[0], 3, 12, 5, 12];
    let other = reference(&serde_json::json!({ "prompt_tokens": prompt, "generated_tokens": others }));
    let trace = other.path().join("trace.jsonl");
    fs::write(&trace, "").expect("written");
    for given in [other.path(), &*trace] {
        let (forced, said) = json_of(&["--prompt", "12+34=", "--force", path(given)]);
        assert_eq!(forced["tokens"], serde_json::json!(others));
        let chosen = forced["chosen_tokens"].as_array().expect("ids");
        // Up to the first token that is another one, the model saw what it saw on its own.
        assert_eq!((chosen.len(), &chosen[0], &chosen[1]), (5, &own["tokens"][0], &own["tokens"][1]));
        assert!(said.starts_with("note: ") && said.contains("the first at step 1"), "{said}");
    }
    // It stops at the limit that is given, and where the tokens end.
    for (limit, count) in [("2", 2), ("100", 5)] {
        let (forced, _) = json_of(&["--prompt", "12+34=", "--force", path(other.path()), "--max-new-tokens", limit]);
        assert_eq!(forced["tokens"], serde_json::json!(others[..count]));
    }
    // A run that does not name its prompt is not checked.
    let unnamed = reference(&serde_json::json!({ "generated_tokens": others }));
    assert_eq!(json_of(&["--prompt", "1+", "--force", path(unnamed.path())]).0["tokens"], serde_json::json!(others));
}

#[test]
fn tokens_that_cannot_be_forced() {
    let forced = |annotations: &serde_json::Value| {
        let trace = reference(annotations);
        refused(&["--tokens", "1,2,3", "--force", path(trace.path())])
    };
    for (annotations, said) in [
        (serde_json::json!({}), "names no tokens that it generated; expected the annotation `generated_tokens`"),
        (serde_json::json!({ "generated_tokens": [] }), "names no tokens that it generated"),
        (serde_json::json!({ "generated_tokens": "46" }), "`generated_tokens`: expected a list of token ids"),
        (serde_json::json!({ "generated_tokens": [1, -2] }), "expected a token id at index 1, found -2"),
        (
            serde_json::json!({ "generated_tokens": [1, 99] }),
            "`generated_tokens`: token id 99 at position 4: expected an id below 14",
        ),
        (
            serde_json::json!({ "prompt_tokens": [1, 2, 4], "generated_tokens": [1] }),
            "another prompt: its `prompt_tokens` are [1, 2, 4], those of this run are [1, 2, 3]; they differ from index 2",
        ),
        (
            serde_json::json!({ "tokens": [1, 2], "generated_tokens": [1] }),
            "its `tokens` are [1, 2], those of this run are [1, 2, 3]; they differ from index 2",
        ),
    ] {
        let message = forced(&annotations);
        assert!(message.contains("--force: ") && message.contains("run.json") && message.contains(said), "{message}");
    }
    let missing = refused(&["--tokens", "1", "--force", "no/such/place"]);
    assert!(missing.contains("no/such/place/run.json; expected a trace directory: No such file"), "{missing}");
    let damaged = reference(&serde_json::json!({}));
    fs::write(damaged.path().join("run.json"), "{\"annotations\": ").expect("written");
    assert!(refused(&["--tokens", "1", "--force", path(damaged.path())]).contains("run.json: not JSON: EOF"));
}

#[test]
fn bad_arguments() {
    let fixture = fixture();
    let model = path(&fixture);
    assert!(refused(&[]).contains("--prompt"));
    assert!(refused(&["--tokens", "1,x"]).contains("'x'"));
    assert!(refused(&["--tokens", "1", "--prompt", "1+"]).contains("--prompt"));
    let outside = refused(&["--model", model, "--tokens", "1,256"]);
    assert!(outside.contains("token id 256 at position 1: expected an id below 256"), "{outside}");
    let long = vec!["1"; 129].join(",");
    assert!(refused(&["--model", model, "--tokens", &long]).contains("129 tokens; expected at most 128"));
    assert!(refused(&["--model", model, "--prompt", "1+1="]).contains("tokenizer.json"));
    assert!(refused(&["--prompt", "hello"]).contains("cannot encode the prompt \"hello\""));
    assert!(refused(&["--prompt", ""]).contains("no tokens"));
    assert!(refused(&["--prompt", "1+1=", "--temperature", "NaN"]).contains("temperature"));
    assert!(refused(&["--model", "no/such/place", "--tokens", "1"]).contains("no/such/place/config.json"));
}

#[test]
fn a_configuration_of_something_else() {
    for (from, to, said) in [
        (
            "BitNetForCausalLM",
            "LlamaForCausalLM",
            "`architectures` is [\"LlamaForCausalLM\"]; expected BitNetForCausalLM",
        ),
        ("autobitlinear", "trilinear", "`quantization_config.linear_class` is \"trilinear\"; expected"),
        ("\"offline\"", "\"sideways\"", "`quantization_config.quantization_mode` is \"sideways\"; expected"),
        ("relu2", "gelu", "`hidden_act` is \"gelu\"; expected \"relu2\" or \"silu\""),
        ("float32", "float64", "`torch_dtype` is \"float64\"; expected \"float32\""),
        ("\"hidden_size\": 64", "\"hidden_size\": \"wide\"", "not a BitNet configuration"),
        ("{", "", "not a BitNet configuration"),
    ] {
        let checkpoint = copy();
        let file = checkpoint.path().join("config.json");
        let config = fs::read_to_string(&file).expect("the configuration");
        assert!(config.contains(from), "{from}");
        fs::write(&file, config.replacen(from, to, 1)).expect("written");
        let message = refused(&["--model", path(checkpoint.path()), "--tokens", "1"]);
        assert!(message.contains(said) && message.contains(path(&file)), "{message}");
    }
}

#[test]
fn tensors_that_are_missing_or_of_another_shape_or_type() {
    // Texts of the same length, so that the offsets in the header stay right.
    for (from, to, said) in [
        (
            "layers.1.mlp.up_proj.weight\"",
            "layers.1.mlp.xx_proj.weight\"",
            "`model.layers.1.mlp.up_proj.weight`: expected U8 [40, 64], found no such tensor",
        ),
        (
            "layers.0.self_attn.q_proj.weight_scale\"",
            "layers.0.self_attn.x_proj.weight_scale\"",
            "`model.layers.0.self_attn.q_proj.weight_scale`: expected F32, F16 or BF16 [1], found no such tensor",
        ),
        (
            "\"shape\":[256,64]",
            "\"shape\":[64,256]",
            "`model.embed_tokens.weight`: expected F32, F16 or BF16 [256, 64], found F32 [64, 256]",
        ),
        (
            "\"dtype\":\"F32\",\"shape\":[256,64]",
            "\"dtype\":\"I32\",\"shape\":[256,64]",
            "`model.embed_tokens.weight`: expected F32, F16 or BF16 [256, 64], found I32 [256, 64]",
        ),
    ] {
        let checkpoint = copy();
        let file = checkpoint.path().join("model.safetensors");
        let mut bytes = fs::read(&file).expect("the tensors");
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect(from);
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        fs::write(&file, bytes).expect("written");
        let message = refused(&["--model", path(checkpoint.path()), "--tokens", "1"]);
        assert!(message.contains(said) && message.contains(path(&file)), "{message}");
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let online = fixture().with_file_name("online_float32");
    let checkpoint = tempfile::tempdir().expect("a temporary directory");
    fs::copy(online.join("config.json"), checkpoint.path().join("config.json")).expect("copied");
    let mut bytes = fs::read(online.join("model.safetensors")).expect("the tensors");
    // The last tensors of the file are layers' weights; the last float of one becomes NaN.
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"))).expect("a length");
    let json: serde_json::Value = serde_json::from_slice(&bytes[8..8 + header]).expect("the header");
    let name = "model.layers.0.self_attn.q_proj.weight";
    let end = usize::try_from(json[name]["data_offsets"][1].as_u64().expect("an offset")).expect("an offset");
    let at = 8 + header + end - 4;
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(checkpoint.path().join("model.safetensors"), bytes).expect("written");
    let message = refused(&["--model", path(checkpoint.path()), "--tokens", "1"]);
    assert!(message.contains(name) && message.contains("NaN in row 63 column 63"), "{message}");
}

#[test]
fn a_context_of_any_stated_length_takes_no_memory() {
    let checkpoint = copy();
    let file = checkpoint.path().join("config.json");
    let config = fs::read_to_string(&file).expect("the configuration");
    let long = config.replace("\"max_position_embeddings\": 128", "\"max_position_embeddings\": 9000000000000000000");
    assert_ne!(long, config);
    fs::write(&file, long).expect("written");
    let output = run(&["--model", path(checkpoint.path()), "--tokens", "1,17", "--max-new-tokens", "2"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_truncated_file() {
    let whole = fs::read(fixture().join("model.safetensors")).expect("the tensors");
    for length in [0, 7, 8, 100, whole.len() / 2, whole.len() - 1] {
        let checkpoint = copy();
        let file = checkpoint.path().join("model.safetensors");
        fs::write(&file, &whole[..length]).expect("written");
        let message = refused(&["--model", path(checkpoint.path()), "--tokens", "1"]);
        assert!(message.contains("the file is damaged") && message.contains(path(&file)), "{message}");
    }
}

#[cfg(feature = "trace")]
mod traced {
    use std::collections::BTreeMap;

    use bitnet_trace::{Trace, TraceRecord};

    use super::*;

    /// Generates eight tokens with the embedded model, without stopping at an end token.
    fn trace(directory: &Path) -> (Output, Vec<TraceRecord>) {
        let mut command = bitnet(&["--prompt", "12+34=", "--max-new-tokens", "8", "--ignore-eos"]);
        let output = command.env("BITNET_TRACE_DIR", directory).output().expect("bitnet starts");
        assert!(output.status.success(), "{output:?}");
        (output, Trace::open(directory).expect("a trace").records().to_vec())
    }

    #[test]
    fn every_stage_of_every_step_is_there_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (output, records) = trace(dir.path());
        let files = fs::read_dir(dir.path()).expect("the directory").filter_map(Result::ok);
        let files =
            files.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "trace")).count();
        let run: serde_json::Value =
            serde_json::from_slice(&fs::read(dir.path().join("run.json")).expect("run.json")).expect("JSON");
        // Prefill and seven decode steps; 18 stages in each of 2 layers, and 3 outside.
        assert_eq!(records.len(), 8 * (2 * 18 + 3));
        assert_eq!((files, run["records"].as_u64()), (records.len(), Some(records.len() as u64)));
        let mut seen = BTreeMap::new();
        for record in &records {
            *seen.entry((record.seq_index, record.layer_idx, record.stage.clone())).or_insert(0) += 1;
        }
        assert!(seen.values().all(|count| *count == 1), "{seen:?}");
        assert_eq!(records.iter().filter(|record| record.layer_idx == Some(0)).count(), 8 * 18);
        assert!((0..8).all(|seq| records.iter().any(|record| record.seq_index == Some(seq))));

        assert_eq!(run["complete"], true);
        assert_eq!(run["annotations"]["prompt"], "12+34=");
        assert_eq!(run["annotations"]["prompt_tokens"].as_array().map(Vec::len), Some(6));
        assert_eq!(run["annotations"]["checkpoint_blake3"].as_str().map(str::len), Some(64));

        let text = stdout(&output);
        assert!(text.starts_with("46"), "{text}");
        assert!(text.contains(&format!("trace: {} records in ", records.len())), "{text}");
        assert!(text.contains("seq  layer  stage"), "{text}");
        assert!(text.contains(&records[1].blake3[..8]), "{text}");
    }

    #[test]
    fn records_are_in_execution_order_and_name_their_source() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (_, records) = trace(dir.path());
        let first: Vec<_> = records.iter().take(20).filter_map(|record| record.stage.as_deref()).collect();
        let expected = "embeddings attn_norm q_proj q_rope k_proj k_rope v_proj attn_scores_softmax attn_ctx \
                        attn_sub_norm o_proj attn_residual ffn_norm gate_proj up_proj ffn_act ffn_sub_norm down_proj \
                        block_out attn_norm";
        assert_eq!(first.join(" "), expected);
        assert!(records.iter().zip(0..).all(|(record, order)| record.order == Some(order)));
        let site = records[2].site.as_deref().expect("a site");
        let (place, function) = site.split_once(' ').expect("file:line function");
        let (file, line) = place.rsplit_once(':').expect("file:line");
        let source =
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)).expect("the source");
        let line: usize = line.parse().expect("a number");
        assert!(source.lines().nth(line - 1).is_some_and(|text| text.contains(&format!("fn {function}("))), "{site}");
    }

    #[test]
    fn two_runs_give_equal_hashes() {
        let (a, b) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("another"));
        let hashes = |directory: &Path| trace(directory).1.into_iter().map(|record| record.blake3).collect::<Vec<_>>();
        assert_eq!(hashes(a.path()), hashes(b.path()));
    }

    #[test]
    fn the_argument_is_the_same_as_the_variable_and_goes_before_it() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (ours, other) = (dir.path().join("ours"), dir.path().join("other"));
        let mut command = bitnet(&["--prompt", "1+1=", "--trace-dir", path(&ours), "--json"]);
        let output = command.env("BITNET_TRACE_DIR", &other).output().expect("bitnet starts");
        let json: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let records = Trace::open(&ours).expect("a trace").records().len();
        assert_eq!(json["trace"]["records"].as_u64(), Some(records as u64));
        assert!(!other.exists());
    }

    #[test]
    fn a_directory_that_cannot_be_created_or_written_costs_one_warning() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("a file");
        // Not even root may create a file in `/proc/sys`.
        let unwritable = cfg!(target_os = "linux").then(|| PathBuf::from("/proc/sys"));
        for directory in [file.join("traces"), file.clone()].into_iter().chain(unwritable) {
            let output = run(&["--prompt", "12+34=", "--trace-dir", path(&directory)]);
            assert!(output.status.success(), "{output:?}");
            assert_eq!(stdout(&output), "46\n");
            let said = String::from_utf8(output.stderr).expect("UTF-8");
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(said.contains("warning") && said.contains(path(&directory)), "{said}");
        }
    }

    /// In a directory where something else has the name of the lock, the run goes into a subdirectory, with one
    /// warning.
    #[test]
    fn where_the_lock_is_something_else_a_directory_inside_is_used() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir_all(dir.path().join(".lock")).expect("a directory where a file has to be");
        let output = run(&["--prompt", "12+34=", "--trace-dir", path(dir.path())]);
        assert!(output.status.success() && stdout(&output).starts_with("46\n"), "{output:?}");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert!(said.lines().count() == 1 && said.contains("run-"), "{said}");
    }

    #[test]
    fn where_the_argument_fails_the_variable_does_not_step_in() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (file, other) = (dir.path().join("file"), dir.path().join("other"));
        fs::write(&file, "").expect("a file");
        // A bad argument beside a good variable, a bad variable alone, and a wrong setting.
        let bad = file.join("traces");
        for (arguments, variable, format) in
            [(&["--trace-dir", path(&bad)][..], &other, "files"), (&[], &bad, "files"), (&[], &other, "xml")]
        {
            let mut command = bitnet(&["--prompt", "12+34="]);
            command.args(arguments).env("BITNET_TRACE_DIR", variable).env("BITNET_TRACE_FORMAT", format);
            let output = command.output().expect("bitnet starts");
            let said = String::from_utf8(output.stderr.clone()).expect("UTF-8");
            assert_eq!((stdout(&output).as_str(), said.lines().count()), ("46\n", 1), "{said}");
            assert!(output.status.success() && !other.exists());
            let output = command.env("BITNET_TRACE_STRICT", "1").output().expect("bitnet starts");
            assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
        }
    }

    #[test]
    fn records_are_printed_with_and_without_a_directory() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for directory in ["", path(dir.path())] {
            let mut command = bitnet(&["--prompt", "12+34="]);
            command.env("BITNET_TRACE_PRINT", "stage=logits").env("BITNET_TRACE_DIR", directory);
            let output = command.output().expect("bitnet starts");
            let said = String::from_utf8(output.stderr.clone()).expect("UTF-8");
            assert!(said.lines().count() == 3 && said.starts_with("t0/logits [1, 6, 14] F32 "), "{said}");
        }
    }

    #[test]
    fn a_forced_run_annotates_both_lists_and_may_take_the_place_of_the_other() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (_, records) = trace(dir.path());
        let annotations = || -> serde_json::Value {
            let json = fs::read(dir.path().join("run.json")).expect("run.json");
            serde_json::from_slice::<serde_json::Value>(&json).expect("JSON")["annotations"].clone()
        };
        let free = annotations();
        assert!(free["chosen_tokens"].is_null(), "{free}");
        // The directory that is read is the one that is recorded into: the older run is read before it is moved.
        let output = run(&["--prompt", "12+34=", "--force", path(dir.path()), "--trace-dir", path(dir.path())]);
        assert!(output.status.success(), "{output:?}");
        let forced = annotations();
        assert_eq!(forced["generated_tokens"], free["generated_tokens"]);
        assert_eq!(forced["chosen_tokens"], free["generated_tokens"]);
        assert!(forced["forced_from"].as_str().is_some_and(|file| file.ends_with("run.json")), "{forced}");
        let hashes = |records: &[TraceRecord]| records.iter().map(|record| record.blake3.clone()).collect::<Vec<_>>();
        let again = Trace::open(dir.path()).expect("a trace");
        assert_eq!(hashes(again.records()), hashes(&records));
    }

    #[test]
    fn a_failing_run_keeps_what_was_recorded() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let message = refused(&["--tokens", "1,99", "--trace-dir", path(dir.path())]);
        assert!(message.contains("token id 99"), "{message}");
        assert!(dir.path().join("run.json").exists());
    }
}

#[cfg(not(feature = "trace"))]
#[test]
fn without_the_feature_it_runs_and_says_how_to_trace() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = run(&["--prompt", "12+34=", "--trace-dir", path(dir.path())]);
    assert!(output.status.success() && stdout(&output) == "46\n", "{output:?}");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("cargo run --release --features trace"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 0);
}
