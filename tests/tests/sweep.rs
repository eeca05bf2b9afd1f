//! `bitnet-trace sweep` on the embedded model: one side as it is, the other with a weight that was changed in each
//! scenario. The test is skipped if a program is missing, unless `REQUIRE_PROGRAMS=1`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bitnet_trace::compare::{DiffOptions, Verdict, diff_paths};
use bitnet_trace_tests::{repository, skip};
use serde_json::Value;

/// The scenarios: prompt, the tensor that is doubled, and where that shows first.
const SCENARIOS: [(&str, &str, &str); 5] = [
    ("12+34=", "model.layers.0.self_attn.q_proj.weight_scale", "t0/blk0/q_proj"),
    ("7+5=", "model.layers.1.self_attn.o_proj.weight_scale", "t0/blk1/o_proj"),
    ("99+1=", "model.layers.0.mlp.gate_proj.weight_scale", "t0/blk0/gate_proj"),
    ("40+2=", "model.layers.1.mlp.down_proj.weight_scale", "t0/blk1/down_proj"),
    ("8+88=", "model.norm.weight", "t0/final_norm"),
];

/// A program of the workspace, beside those of this package: `cargo test --workspace` builds all of them. `None` if it
/// was not built.
fn program(name: &str) -> Option<PathBuf> {
    let scenario = Path::new(env!("CARGO_BIN_EXE_scenario"));
    let path = scenario.with_file_name(name).with_extension(std::env::consts::EXE_EXTENSION);
    path.exists().then_some(path)
}

/// Writes the embedded checkpoint with one tensor of F32 doubled.
fn sabotaged(directory: &Path, tensor: &str) {
    let embedded = repository().join("bitnet-models/src/tiny");
    fs::create_dir_all(directory).expect("created");
    for name in ["config.json", "tokenizer.json"] {
        fs::copy(embedded.join(name), directory.join(name)).expect("copied");
    }
    let mut file = fs::read(embedded.join("model.safetensors")).expect("the weights");
    let length = u64::from_le_bytes(file[..8].try_into().expect("8 bytes"));
    let data = 8 + usize::try_from(length).expect("it fits");
    let header: Value = serde_json::from_slice(&file[8..data]).expect("a header");
    assert_eq!(header[tensor]["dtype"], "F32", "{tensor}");
    let offset = |at: usize| {
        data + usize::try_from(header[tensor]["data_offsets"][at].as_u64().expect("an offset")).expect("it fits")
    };
    for element in file[offset(0)..offset(1)].chunks_exact_mut(4) {
        let doubled = f32::from_le_bytes(element.try_into().expect("4 bytes")) * 2.0;
        element.copy_from_slice(&doubled.to_le_bytes());
    }
    fs::write(directory.join("model.safetensors"), file).expect("written");
}

/// The two programs, if both were built.
fn programs() -> Option<(PathBuf, PathBuf)> {
    let both = program("bitnet-trace").zip(program("bitnet"));
    if both.is_none() {
        skip("REQUIRE_PROGRAMS", "`bitnet-trace` or `bitnet` was not built; `cargo test --workspace` builds them");
    }
    both
}

#[test]
fn each_scenario_names_the_stage_that_was_sabotaged() {
    let Some((sweep, bitnet)) = programs() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let run = format!(
        "[{:?}, \"run\", \"--prompt\", \"{{prompt}}\", \"--max-new-tokens\", \"{{steps}}\"",
        bitnet.display().to_string()
    );
    let mut plan = format!(
        "timeout = \"5m\"\n[reference]\ncommand = {run}]\n[trace]\ncommand = {run}, \"--model\", \"models/{{name}}\"]\n"
    );
    for (at, (prompt, tensor, _)) in SCENARIOS.iter().enumerate() {
        sabotaged(&directory.path().join(format!("models/s{at}")), tensor);
        plan.extend(["[[scenario]]\n", &format!("name = \"s{at}\"\nprompt = \"{prompt}\"\n"), "steps = 3\n"]);
    }
    // The last one is healthy.
    sabotaged(&directory.path().join("models/healthy"), "model.norm.weight");
    let healthy = repository().join("bitnet-models/src/tiny/model.safetensors");
    fs::copy(healthy, directory.path().join("models/healthy/model.safetensors")).expect("copied");
    plan += "[[scenario]]\nname = \"healthy\"\nprompt = \"1+1=\"\nsteps = 3\n";
    let path = directory.path().join("plan.toml");
    fs::write(&path, plan).expect("written");

    let mut command = Command::new(sweep);
    command.arg("sweep").arg(&path).arg("-o").arg(directory.path().join("out")).args(["--json", "--jobs", "2"]);
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let results = results["scenarios"].as_array().expect("a list");
    assert_eq!(results.len(), SCENARIOS.len() + 1);
    for (result, (_, _, stage)) in results.iter().zip(SCENARIOS) {
        assert_eq!((&result["verdict"], &result["first"]["name"]), (&"diverged".into(), &stage.into()), "{result:#}");
    }
    assert_eq!(results[SCENARIOS.len()]["verdict"], "match", "{:#}", results[SCENARIOS.len()]);
}

/// Steps of the runs whose tokens differ on their own.
const STEPS: usize = 6;

/// Without `force`, the sabotaged side decodes other tokens, so that a later step computes something else. With it, all
/// steps of the two have the same input.
#[test]
fn with_force_all_steps_stay_comparable() {
    let Some((sweep, bitnet)) = programs() else { return };
    let directory = tempfile::tempdir().expect("a temporary directory");
    sabotaged(&directory.path().join("model"), "model.layers.1.mlp.down_proj.weight_scale");
    for forced in [false, true] {
        let command =
            format!("{:?}, \"run\", \"--prompt\", \"{{prompt}}\", \"--ignore-eos\"", bitnet.display().to_string());
        let steps = "\"--max-new-tokens\", \"{steps}\"";
        let (force, limit) =
            if forced { ("force = \"reference\"", "\"--force\", \"{reference}\"") } else { ("", steps) };
        let plan = format!(
            "{force}\n[reference]\ncommand = [{command}, {steps}]\n[trace]\ncommand = [{command}, {limit}, \"--model\", \"model\"]\n\
             [[scenario]]\nname = \"sum\"\nprompt = \"12+34=\"\nsteps = {STEPS}\n"
        );
        let (path, out) = (directory.path().join("plan.toml"), directory.path().join(format!("out-{forced}")));
        fs::write(&path, plan).expect("written");
        let output = Command::new(&sweep).arg("sweep").arg(&path).arg("-o").arg(&out).arg("--json").output();
        let output = output.expect("it starts");
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        let results: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let result = &results["scenarios"][0];
        assert_eq!((&result["verdict"], &result["first"]["name"]), (&"diverged".into(), &"t0/blk1/down_proj".into()));

        let sides = ["reference", "trace"].map(|side| out.join("sum").join(side));
        let tokens = sides.each_ref().map(|side| {
            let run: Value = serde_json::from_slice(&fs::read(side.join("run.json")).expect("run.json")).expect("JSON");
            run["annotations"].clone()
        });
        assert_eq!(tokens[0]["generated_tokens"] == tokens[1]["generated_tokens"], forced, "{tokens:?}");
        let comparison = diff_paths(&sides[0], &sides[1], &DiffOptions::default(), &mut |_, _| {}).expect("traces");
        let embeddings = comparison.pairs.iter().filter(|pair| &*pair.key.stage == "embeddings");
        let same: Vec<bool> = embeddings.map(|pair| pair.verdict == Verdict::Identical).collect();
        assert_eq!(same.len(), STEPS);
        assert_eq!(same.iter().all(|same| *same), forced, "{same:?}");
        let note = result["notes"][0].as_str().expect("a note");
        if forced {
            assert_eq!(comparison.pairs.len(), STEPS * (2 * 18 + 3));
            assert_ne!(tokens[1]["chosen_tokens"], tokens[1]["generated_tokens"]);
            assert!(note.starts_with("the trace would have left the tokens at "), "{note}");
        } else {
            assert!(note.starts_with("generated token "), "{note}");
        }
    }
}
