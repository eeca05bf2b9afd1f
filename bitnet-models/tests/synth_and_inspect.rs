//! `bitnet synth` and `bitnet inspect` as a user sees them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn bitnet(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitnet"));
    command.args(arguments).env_remove("BITNET_TRACE_DIR").output().expect("bitnet starts")
}

fn synth(format: &str, seed: &str, out: &Path) -> Output {
    bitnet(&["synth", "--shape", "tiny", "--format", format, "--seed", seed, path(out)])
}

fn path(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// What `inspect --json` prints, and whether it found nothing wrong.
fn inspected(at: &Path) -> (Value, bool) {
    let output = bitnet(&["inspect", "--json", path(at)]);
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    (json, output.status.success())
}

const FORMATS: [&str; 5] = ["hf-offline", "hf-bf16", "i2_s", "tq1_0", "tq2_0"];

#[test]
fn what_synth_writes_is_what_inspect_shows_and_run_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    for format in FORMATS {
        let out = directory.path().join(format);
        let output = synth(format, "7", &out);
        assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
        let (json, sound) = inspected(&out);
        assert!(sound && json["problems"].as_array().is_some_and(Vec::is_empty), "{json:#}");
        assert_eq!((&json["config"]["hidden_size"], &json["config"]["vocab_size"]), (&256.into(), &320.into()));
        let total = |kind: &str| {
            let totals = json["totals"].as_array().expect("a list");
            let total =
                totals.iter().find(|total| total["type"] == kind).unwrap_or_else(|| panic!("{kind} in {json:#}"));
            (total["tensors"].as_u64().expect("a number"), total["bytes"].as_u64().expect("a number"))
        };
        // Fourteen linear layers of 2 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 512 * 256) values.
        let values = 2 * (2 * 256 * 256 + 2 * 128 * 256 + 3 * 512 * 256);
        match format {
            "i2_s" => assert_eq!(total("I2_S"), (14, values / 4 + 14 * 32)),
            "tq1_0" => assert_eq!(total("TQ1_0"), (14, values / 256 * 54)),
            "tq2_0" => assert_eq!(total("TQ2_0"), (14, values / 256 * 66)),
            "hf-offline" => assert_eq!(total("U8"), (14, values / 4)),
            _ => assert_eq!(total("BF16").0, 14 + 10),
        }
        let run =
            bitnet(&["run", "--model", path(&out), "--tokens", "1,17,200", "--max-new-tokens", "2", "--ignore-eos"]);
        assert!(run.status.success() && text(&run.stdout).trim_end().split(',').count() == 2, "{run:?}");
        // The table for people.
        let table = bitnet(&["inspect", path(&out)]);
        let shown = text(&table.stdout);
        assert!(table.status.success() && shown.contains("by type") && shown.contains("hidden_size"), "{shown}");
    }
}

#[test]
fn files_follow_the_seed() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, seed: &str| {
        let out = directory.path().join(name);
        assert!(synth("i2_s", seed, &out).status.success());
        fs::read(&out).expect("written")
    };
    let (a, b, c) = (file("a", "1"), file("b", "1"), file("c", "2"));
    assert!(a == b && a.len() == c.len() && a != c);
    // Nothing is left beside the files.
    assert_eq!(fs::read_dir(directory.path()).expect("the directory").count(), 3);
}

#[test]
fn only_what_synth_wrote_is_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    for format in FORMATS {
        let out = directory.path().join(format);
        assert!(synth(format, "1", &out).status.success());
        assert!(synth(format, "2", &out).status.success());
    }
    let foreign = |out: &Path, format: &str| {
        let output = synth(format, "3", out);
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains("exists and is not") && said.contains(path(out)), "{said}");
    };
    // Another format than that of the thing that is there, a file of somebody else, a directory with more in it.
    foreign(&directory.path().join("i2_s"), "hf-offline");
    foreign(&directory.path().join("hf-offline"), "i2_s");
    let notes = directory.path().join("notes.gguf");
    fs::write(&notes, "GGUF are my notes").expect("written");
    foreign(&notes, "i2_s");
    assert_eq!(fs::read_to_string(&notes).expect("there"), "GGUF are my notes");
    fs::write(directory.path().join("hf-bf16/notes"), "mine").expect("written");
    foreign(&directory.path().join("hf-bf16"), "hf-bf16");
    assert!(directory.path().join("hf-bf16/notes").exists());
    let message = text(&synth("i2_s", "1", &directory.path().join("no/such/place")).stderr);
    assert!(message.contains("cannot write"), "{message}");
    let message = text(&bitnet(&["synth", "--shape", "huge", "--format", "i2_s", "x"]).stderr);
    assert!(message.contains("tiny, 2b-4t"), "{message}");
}

#[test]
fn inspect_shows_what_it_can_of_a_damaged_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("model.gguf");
    assert!(synth("tq2_0", "1", &out).status.success());
    let whole = fs::read(&out).expect("written");
    // A type that cannot be run.
    let name = b"blk.1.ffn_down.weight";
    let kind = whole.windows(name.len()).position(|window| window == name).expect("the tensor") + name.len() + 4 + 16;
    let mut tl1 = whole.clone();
    tl1[kind] = 38;
    // A file that ends in its head, and one that ends in its data.
    for (case, bytes, tensors, said) in [
        ("TL1", &tl1[..], 24, "TL1 (type 38)"),
        ("half", &whole[..whole.len() / 2], 24, "data inside the file"),
        ("head", &whole[..kind - 30], 22, "found the end of the file"),
        ("start", &whole[..6], 0, "the version"),
        ("empty", &[], 0, "byte 0"),
    ] {
        fs::write(&out, bytes).expect("written");
        let (json, sound) = inspected(&out);
        assert!(!sound, "{case}");
        let problems = json["problems"].to_string();
        assert!(problems.contains(said) && problems.contains("model.gguf"), "{case}: {problems}");
        assert!(json["tensors"].as_array().is_some_and(|list| list.len() == tensors), "{case}: {}", json["tensors"]);
        let shown = bitnet(&["inspect", path(&out)]);
        assert_eq!(shown.status.code(), Some(1));
        assert!(text(&shown.stderr).contains(said) && !text(&shown.stderr).contains("panicked"), "{shown:?}");
    }
    let missing = bitnet(&["inspect", path(&directory.path().join("none.gguf"))]);
    assert!(missing.status.code() == Some(1) && text(&missing.stderr).contains("none.gguf"), "{missing:?}");
}

/// A name that would colour or move the cursor of a terminal is shown, not obeyed.
#[test]
fn inspect_prints_no_control_characters_of_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("model.gguf");
    assert!(synth("tq2_0", "1", &out).status.success());
    let mut bytes = fs::read(&out).expect("written");
    let name = b"blk.1.ffn_down.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("the tensor");
    bytes[at..at + 4].copy_from_slice(b"\x1b[2J");
    fs::write(&out, bytes).expect("written");
    let output = bitnet(&["inspect", path(&out)]);
    assert!(!output.stdout.contains(&0x1b) && !output.stderr.contains(&0x1b), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("\\u{1b}[2J"), "{}", text(&output.stdout));
}
