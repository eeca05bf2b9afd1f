//! `bitnet synth` and `bitnet inspect` as a user sees them.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

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

/// A long name does not widen the rows of all other tensors.
#[test]
fn inspect_shows_the_beginning_of_a_long_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("x.safetensors");
    let entry = |name: &str| format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let names = (0..1000).map(|index| index.to_string()).chain(["n".repeat(65535)]);
    let head = format!("{{{}}}", names.map(|name| entry(&name)).collect::<Vec<_>>().join(","));
    fs::write(&file, [&(head.len() as u64).to_le_bytes()[..], head.as_bytes()].concat()).expect("written");
    let output = bitnet(&["inspect", path(&file)]);
    assert!(output.status.success() && output.stdout.len() < 1_000_000, "{}", output.stdout.len());
    assert!(text(&output.stdout).contains("nnn... (65535 characters)"));
}

/// A model of one layer would answer, and wrongly.
#[test]
fn inspect_and_run_refuse_a_configuration_of_fewer_layers() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("model");
    assert!(synth("hf-offline", "1", &out).status.success());
    let config = fs::read_to_string(out.join("config.json")).expect("written");
    let one = config.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    assert_ne!(one, config);
    fs::write(out.join("config.json"), one).expect("written");
    let (json, sound) = inspected(&out);
    let problem = json["problems"][0].as_str().expect("a problem");
    assert!(!sound && problem.contains("`model.layers.1.input_layernorm.weight`: expected tensors of 1 layers"));
    let run = bitnet(&["run", "--model", path(&out), "--tokens", "1"]);
    assert!(!run.status.success() && text(&run.stderr).contains(problem), "{run:?}");
}

/// One safetensors file is a part of a checkpoint: inspect says whether it is whole, and it cannot be run.
#[test]
fn one_safetensors_file_is_a_part_of_a_checkpoint() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("model");
    assert!(synth("hf-offline", "1", &out).status.success());
    let other = directory.path().join("m.bin");
    fs::copy(out.join("model.safetensors"), &other).expect("copied");
    for file in [&out.join("model.safetensors"), &other] {
        let (json, sound) = inspected(file);
        assert!(sound && json["format"] == "safetensors" && json["config"].is_null(), "{json:#}");
        let run = bitnet(&["run", "--model", path(file), "--tokens", "1"]);
        let said = text(&run.stderr);
        assert!(!run.status.success() && said.contains("a safetensors file"), "{said}");
        assert!(said.contains("name its directory, which also holds config.json"), "{said}");
    }
    let whole = fs::read(&other).expect("copied");
    fs::write(&other, &whole[..whole.len() - 1]).expect("written");
    assert!(!inspected(&other).1);
    // What is of neither format is not one of the two for inspect and the other for run.
    let notes = directory.path().join("notes");
    fs::write(&notes, "my notes are longer than eight bytes").expect("written");
    let (json, sound) = inspected(&notes);
    let problem = json["problems"][0].as_str().expect("a problem");
    assert!(!sound && json["format"] == "unknown" && problem.contains("not a GGUF file"), "{json:#}");
    let run = bitnet(&["run", "--model", path(&notes), "--tokens", "1"]);
    assert!(text(&run.stderr).contains(problem), "{run:?}");
}

/// Waits for a program to end, but not forever.
#[cfg(unix)]
fn ended(mut child: Child, deadline: Duration) -> Output {
    let begin = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if begin.elapsed() > deadline {
            child.kill().expect("killed");
            panic!("not ended after {deadline:?}");
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().expect("ended")
}

#[cfg(unix)]
fn start(program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).env_remove("BITNET_TRACE_DIR").stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("a child")
}

#[cfg(unix)]
const BITNET: &str = env!("CARGO_BIN_EXE_bitnet");

/// Far more than is needed, on a machine with much else to do.
#[cfg(unix)]
const DEADLINE: Duration = Duration::from_secs(60);

#[cfg(unix)]
#[test]
fn synth_does_not_wait_for_the_writer_of_a_pipe() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = Command::new("mkfifo").arg(directory.path().join("config.json")).status().expect("mkfifo runs");
    assert!(made.success());
    let child = start(BITNET, &["synth", "--shape", "tiny", "--format", "hf-offline", path(directory.path())]);
    let said = text(&ended(child, DEADLINE).stderr);
    assert!(said.contains("exists and is not a checkpoint directory"), "{said}");
}

/// A signal to end leaves nothing of a gigabyte that is half written.
#[cfg(unix)]
#[test]
fn a_signal_ends_synth_and_nothing_is_left() {
    for (format, signal, status) in [("i2_s", "-INT", 130), ("i2_s", "-TERM", 143), ("hf-bf16", "-TERM", 143)] {
        let directory = tempfile::tempdir().expect("a directory");
        let child =
            start(BITNET, &["synth", "--shape", "2b-4t", "--format", format, path(&directory.path().join("out"))]);
        // The temporary file shows that the handlers are there: they are registered before it is made.
        let begin = Instant::now();
        while fs::read_dir(directory.path()).expect("the directory").next().is_none() {
            assert!(begin.elapsed() < DEADLINE, "nothing was begun");
            thread::sleep(Duration::from_millis(10));
        }
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill starts");
        assert!(killed.success());
        let output = ended(child, DEADLINE);
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(text(&output.stderr).contains("nothing was written"), "{output:?}");
        assert_eq!(fs::read_dir(directory.path()).expect("the directory").count(), 0, "{format} {signal}");
    }
}

/// As every other program, synth leaves the permissions to the umask.
#[cfg(unix)]
#[test]
fn synth_follows_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    for (umask, file, folder) in [("077", 0o600, 0o700), ("027", 0o640, 0o750), ("002", 0o664, 0o775)] {
        for format in ["i2_s", "hf-offline"] {
            let out = directory.path().join(format!("{format}-{umask}"));
            let script = format!("umask {umask}; exec \"$0\" synth --shape tiny --format {format} \"$1\"");
            let output = ended(start("sh", &["-c", &script, BITNET, path(&out)]), DEADLINE);
            assert!(output.status.success(), "{output:?}");
            let mode = |path: &Path| fs::metadata(path).expect("written").permissions().mode() & 0o7777;
            if format == "i2_s" {
                assert_eq!(mode(&out), file, "{umask}");
            } else {
                let files = ["config.json", "model.safetensors"].map(|name| mode(&out.join(name)));
                assert_eq!((mode(&out), files), (folder, [file; 2]), "{umask}");
            }
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_to_is_named() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("the device");
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("model.gguf");
    assert!(synth("i2_s", "1", &out).status.success());
    let output = Command::new(BITNET).args(["inspect", path(&out)]).stdout(full).output().expect("bitnet starts");
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.starts_with("error: cannot write to standard output: "), "{said}");
}
