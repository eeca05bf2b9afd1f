//! Checkpoints in several files, and an index that may be wrong.

use std::fs;
use std::path::Path;

use bitnet_models::Checkpoint;
use bitnet_models::checkpoint::inspect::Inspection;
use bitnet_models::synth::Format;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{few_short_problems, load, refused, synthetic};

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// A checkpoint whose tensors are in two files, the embeddings in the first.
fn sharded() -> TempDir {
    let directory = synthetic(Format::HfOffline);
    let model = directory.path().join("model");
    let whole = fs::read(model.join("model.safetensors")).expect("written");
    let (length, rest) = whole.split_first_chunk().expect("a length");
    let (head, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("small"));
    let head: serde_json::Map<String, Value> = serde_json::from_slice(head).expect("JSON");
    let mut weight_map = serde_json::Map::new();
    for (shard, name) in SHARDS.iter().enumerate() {
        let (mut part, mut bytes) = (serde_json::Map::new(), Vec::new());
        for (tensor, info) in head.iter().filter(|(tensor, _)| *tensor != "__metadata__") {
            if (tensor == "model.embed_tokens.weight") != (shard == 0) {
                continue;
            }
            let at = |index: usize| usize::try_from(info["data_offsets"][index].as_u64().expect("one")).expect("small");
            let start = bytes.len();
            bytes.extend(&data[at(0)..at(1)]);
            let offsets = json!([start, bytes.len()]);
            part.insert(
                tensor.clone(),
                json!({"dtype": info["dtype"], "shape": info["shape"], "data_offsets": offsets}),
            );
            weight_map.insert(tensor.clone(), json!(name));
        }
        let part = Value::Object(part).to_string();
        let file = [&(part.len() as u64).to_le_bytes()[..], part.as_bytes(), &bytes].concat();
        fs::write(model.join(name), file).expect("written");
    }
    fs::remove_file(model.join("model.safetensors")).expect("removed");
    write_index(&model, &json!({"metadata": {"total_size": data.len()}, "weight_map": weight_map}));
    directory
}

fn write_index(model: &Path, index: &Value) {
    fs::write(model.join(INDEX), index.to_string()).expect("written");
}

fn index(model: &Path) -> Value {
    serde_json::from_slice(&fs::read(model.join(INDEX)).expect("the index")).expect("JSON")
}

#[test]
fn a_checkpoint_in_two_files_is_the_one_in_one_file() {
    let (one, two) = (synthetic(Format::HfOffline), sharded());
    let logits = |directory: &TempDir| {
        let checkpoint = Checkpoint::open(directory.path().join("model")).expect("a checkpoint");
        let model = bitnet_models::Transformer::load(&checkpoint).expect("all tensors");
        let mut cache = bitnet_models::KvCache::new(model.config());
        let logits = model.forward_full(&[1, 17, 200], &mut cache).expect("logits");
        logits.flatten_all().and_then(|logits| logits.to_vec1::<f32>()).expect("numbers")
    };
    let (one, two) = (logits(&one), logits(&two));
    assert!(one.iter().zip(&two).all(|(a, b)| a.to_bits() == b.to_bits()) && one.len() == two.len());
}

#[test]
fn names_that_lead_elsewhere_and_files_that_are_not_there() {
    let directory = sharded();
    let model = directory.path().join("model");
    let original = index(&model);
    let outside = directory.path().join("outside.safetensors");
    fs::copy(model.join(SHARDS[0]), &outside).expect("copied");
    let outside = outside.to_str().expect("UTF-8").to_owned();
    for shard in ["../outside.safetensors", &outside, "..", ".", "", "sub/file.safetensors", "c:\\x", "a\0b"] {
        let mut index = original.clone();
        index["weight_map"]["model.embed_tokens.weight"] = json!(shard);
        write_index(&model, &index);
        let message = refused(Checkpoint::open(&model), shard);
        assert!(message.contains(INDEX) && message.contains("without a path"), "{shard}: {message}");
    }
    for (case, index, said) in [
        ("no JSON", json!("x"), "not an index"),
        ("no map", json!({}), "not an index"),
        ("an empty map", json!({"weight_map": {}}), "`weight_map` is empty"),
        ("another type", json!({"weight_map": {"a": 5}}), "not an index"),
        (
            "a file that is not there",
            json!({"weight_map": {"a": "none.safetensors"}}),
            "none.safetensors, which does not exist",
        ),
        ("a tensor that is not there", json!({"weight_map": {"a": SHARDS[0]}}), "places `a` in model-00001"),
    ] {
        write_index(&model, &index);
        let message = refused(Checkpoint::open(&model), case);
        assert!(message.contains(INDEX) && message.contains(said), "{case}: {message}");
    }
    write_index(&model, &original);
    assert_eq!(load(Checkpoint::open(&model)), Ok(()));
    fs::remove_file(model.join(SHARDS[1])).expect("removed");
    fs::create_dir(model.join(SHARDS[1])).expect("a directory");
    // What is wrong with one file does not hide the other.
    let inspection = Inspection::of(&model).expect("something to show");
    assert_eq!(inspection.tensors.len(), 1);
    assert!(inspection.problems.iter().any(|problem| problem.contains(SHARDS[1])), "{:?}", inspection.problems);
    let message = refused(Checkpoint::open(model.join(SHARDS[0])), "one file of two");
    assert!(message.contains("a safetensors file, one file of a checkpoint; name its directory"), "{message}");
    let message = refused(Checkpoint::open(&model), "a directory");
    assert!(message.contains(SHARDS[1]) && message.contains("a directory; expected a regular file"), "{message}");
}

/// The cache of the Hugging Face hub consists of links to files of other names.
#[cfg(unix)]
#[test]
fn links_are_followed_and_a_dangling_one_is_an_error() {
    let directory = sharded();
    let model = directory.path().join("model");
    let blob = directory.path().join("blob");
    fs::rename(model.join(SHARDS[0]), &blob).expect("moved");
    std::os::unix::fs::symlink("../blob", model.join(SHARDS[0])).expect("linked");
    assert_eq!(load(Checkpoint::open(&model)), Ok(()));
    fs::remove_file(&blob).expect("removed");
    let message = refused(Checkpoint::open(&model), "a dangling link");
    assert!(message.contains(SHARDS[0]) && message.contains("symbolic link to ../blob"), "{message}");
    // A pipe would keep its reader waiting.
    let made = std::process::Command::new("mkfifo").arg(&blob).status().expect("mkfifo runs");
    assert!(made.success());
    let message = refused(Checkpoint::open(&model), "a pipe");
    assert!(message.contains("a device, pipe or socket; expected a regular file"), "{message}");
}

#[test]
fn a_directory_with_one_gguf_file_stands_for_it() {
    let directory = synthetic(Format::Tq1_0);
    let file = directory.path().join("model.gguf");
    fs::rename(directory.path().join("model"), &file).expect("renamed");
    assert_eq!(load(Checkpoint::open(directory.path())), Ok(()));
    fs::copy(&file, directory.path().join("other.gguf")).expect("copied");
    let message = refused(Checkpoint::open(directory.path()), "two files");
    assert!(message.contains("2 GGUF files") && message.contains("other.gguf"), "{message}");
}

#[test]
fn a_directory_may_have_the_name_of_a_file() {
    let directory = synthetic(Format::HfOffline);
    let named = directory.path().join("model.gguf");
    fs::rename(directory.path().join("model"), &named).expect("renamed");
    assert_eq!(load(Checkpoint::open(&named)), Ok(()));
}

/// As many tensors as a file may have, and one that it does not have: each is looked up once.
#[test]
fn many_tensors_of_which_one_is_not_there() {
    let directory = tempfile::tempdir().expect("a directory");
    let names: Vec<String> = (0..65536).map(|index| format!("t{index:06}")).collect();
    let entry = |name: &String| format!("\"{name}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}");
    let head = format!("{{{}}}", names.iter().map(entry).collect::<Vec<_>>().join(","));
    let file = [&(head.len() as u64).to_le_bytes()[..], head.as_bytes()].concat();
    fs::write(directory.path().join(SHARDS[0]), file).expect("written");
    let places = names.iter().map(String::as_str).chain(["z"]).map(|name| (name.to_owned(), json!(SHARDS[0])));
    write_index(directory.path(), &json!({"weight_map": places.collect::<serde_json::Map<_, _>>()}));
    let source = synthetic(Format::HfOffline);
    fs::copy(source.path().join("model/config.json"), directory.path().join("config.json")).expect("copied");
    let begin = std::time::Instant::now();
    let message = refused(Checkpoint::open(directory.path()), "a tensor that is not there");
    assert!(message.contains("places `z` in model-00001"), "{message}");
    assert!(begin.elapsed().as_secs() < 10, "{:?}", begin.elapsed());
}

/// A hostile index can name as many files as it has tensors.
#[test]
fn many_files_that_are_not_there() {
    let directory = sharded();
    let model = directory.path().join("model");
    let places = (0..5000).map(|index| (format!("t{index}"), json!(format!("f{index}"))));
    write_index(&model, &json!({"weight_map": places.collect::<serde_json::Map<_, _>>()}));
    few_short_problems(&model, 5000);
}

#[test]
fn tensors_of_another_format_beside_a_configuration_are_named() {
    let (source, gguf) = (synthetic(Format::HfOffline), synthetic(Format::I2S));
    let model = source.path().join("model");
    fs::remove_file(model.join("model.safetensors")).expect("removed");
    let problem = |case: &str| {
        let message = refused(Checkpoint::open(&model), case);
        let inspection = Inspection::of(&model).expect("something to show");
        assert!(inspection.problems[0].starts_with(&message), "{case}: {message}: {:?}", inspection.problems);
        message
    };
    assert!(problem("no tensors").contains("cannot read"));
    fs::write(model.join("pytorch_model-00001-of-00002.bin"), b"PK").expect("written");
    let message = problem("pickled tensors");
    let said = "no model.safetensors; pytorch_model-00001-of-00002.bin is not read: convert it to safetensors";
    assert!(message.contains(said), "{message}");
    fs::copy(gguf.path().join("model"), model.join("i2_s.gguf")).expect("copied");
    let message = problem("a GGUF file");
    let said = "no model.safetensors; to use a GGUF file, name the file: i2_s.gguf";
    assert!(message.contains(said), "{message}");
    assert_eq!(load(Checkpoint::open(model.join("i2_s.gguf"))), Ok(()));
}
