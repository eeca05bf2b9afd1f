//! safetensors files with one thing wrong each.

use std::fs;

use bitnet_models::Checkpoint;
use bitnet_models::synth::Format;
use bytes::Bytes;
use serde_json::{Value, json};

use super::{few_short_problems, load, refused, synthetic};

/// The files of a checkpoint, apart.
#[derive(Clone)]
struct Files {
    config: Value,
    head: String,
    data: Vec<u8>,
}

impl Files {
    fn new(format: Format) -> Self {
        let directory = synthetic(format);
        let config = fs::read(directory.path().join("model/config.json")).expect("written");
        let tensors = fs::read(directory.path().join("model/model.safetensors")).expect("written");
        let (length, rest) = tensors.split_first_chunk().expect("a length");
        let (head, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).expect("small"));
        Self {
            config: serde_json::from_slice(&config).expect("JSON"),
            head: String::from_utf8(head.to_vec()).expect("UTF-8"),
            data: data.to_vec(),
        }
    }

    /// Changes the description of a tensor.
    fn tensor(mut self, name: &str, change: impl FnOnce(&mut Value)) -> Self {
        let mut head: Value = serde_json::from_str(&self.head).expect("JSON");
        change(&mut head[name]);
        self.head = head.to_string();
        self
    }

    fn config(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Where the data of a tensor begins in the data.
    fn start(&self, name: &str) -> usize {
        let head: Value = serde_json::from_str(&self.head).expect("JSON");
        usize::try_from(head[name]["data_offsets"][0].as_u64().expect("an offset")).expect("small")
    }

    fn put(mut self, name: &str, at: usize, bytes: &[u8]) -> Self {
        let at = self.start(name) + at;
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Adds a vector of F32 after the other tensors.
    fn vector(mut self, name: &str, values: &[f32]) -> Self {
        let start = self.data.len();
        self.data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        let offsets = [start, self.data.len()];
        self.tensor(name, |tensor| *tensor = json!({"dtype": "F32", "shape": [values.len()], "data_offsets": offsets}))
    }

    /// The file of tensors whose first bytes say that the head has this length.
    fn file(&self, length: u64) -> Vec<u8> {
        [&length.to_le_bytes()[..], self.head.as_bytes(), &self.data].concat()
    }

    fn open(&self, length: u64) -> bitnet_models::Result<Checkpoint> {
        let config = self.config.to_string();
        Checkpoint::from_safetensors("x", config.as_bytes(), &Bytes::from(self.file(length)))
    }

    fn load(&self) -> Result<(), String> {
        load(self.open(self.head.len() as u64))
    }

    fn message(&self, length: u64, case: &str) -> String {
        refused(self.open(length), case)
    }
}

const LINEAR: &str = "model.layers.0.self_attn.q_proj.weight";
const SCALE: &str = "model.layers.0.self_attn.q_proj.weight_scale";
const NORM: &str = "model.layers.0.input_layernorm.weight";

fn check(cases: Vec<(&str, Files, &[&str])>) {
    for (case, files, said) in cases {
        let message = files.message(files.head.len() as u64, case);
        assert!(message.contains("x/model.safetensors") || message.contains("x/config.json"), "{case}: {message}");
        for part in said {
            assert!(message.contains(part), "{case}: {part:?} is not in: {message}");
        }
    }
}

#[test]
fn heads() {
    let files = Files::new(Format::HfOffline);
    for length in [u64::MAX, 1 << 40, 100_000_001, 10_000_000] {
        let message = files.message(length, "a length");
        assert!(message.contains(&format!("the head has {length} bytes")), "{message}");
    }
    assert!(files.message(5, "a short length").contains("not a whole safetensors file"));
    let with = |head: &str| Files { head: head.to_owned(), ..files.clone() };
    let twice = files.head.replacen(LINEAR, NORM, 1);
    let extra = Files { data: [&files.data[..], &[0; 8]].concat(), ..files.clone() };
    let short = Files { data: files.data[..files.data.len() - 2].to_vec(), ..files.clone() };
    check(vec![
        ("no JSON", with("{"), &["not a whole safetensors file", "the head"]),
        ("a list", with("[]"), &["an object of tensors"]),
        ("a negative offset", with(r#"{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-1, 4]}}"#), &["the head"]),
        (
            "a size above 2^64",
            with(r#"{"a": {"dtype": "F32", "shape": [99999999999999999999], "data_offsets": [0, 4]}}"#),
            &["the head"],
        ),
        ("no tensors", with("{}"), &["of which head and tensors describe"]),
        ("a tensor a second time", with(&twice), &["the tensor `model.layers.0.input_layernorm.weight` a second time"]),
        ("bytes after the last tensor", extra, &["not a whole safetensors file", "of which head and tensors describe"]),
        ("a file that is cut", short, &["model.norm.weight", "expected data inside the file"]),
    ]);
}

#[test]
fn tensors() {
    let files = Files::new(Format::HfOffline);
    let change = |key: &'static str, value: Value| files.clone().tensor(LINEAR, |tensor| tensor[key] = value);
    let bf16 = |value: u16| value.to_le_bytes();
    check(vec![
        (
            "another type of the same size",
            change("dtype", json!("I8")),
            &[LINEAR, "expected U8 [64, 256], found I8 [64, 256]"],
        ),
        ("a type of another size", change("dtype", json!("F32")), &[LINEAR, "expected 65536 bytes", "F32 [64, 256]"]),
        ("another shape", change("shape", json!([256, 64])), &[LINEAR, "expected U8 [64, 256], found U8 [256, 64]"]),
        (
            "more values than 2^64",
            change("shape", json!([1u64 << 40, 1u64 << 40])),
            &[LINEAR, "a size that a file can have"],
        ),
        ("an end before the beginning", change("data_offsets", json!([9, 8])), &[LINEAR, "from byte 9 to 8"]),
        (
            "data after the end",
            change("data_offsets", json!([1u64 << 62, (1u64 << 62) + 16384])),
            &[LINEAR, "data inside the file"],
        ),
        (
            "offsets near 2^64",
            change("data_offsets", json!([u64::MAX - 16384, u64::MAX])),
            &[LINEAR, "data inside the file"],
        ),
        ("overlapping", change("data_offsets", json!([0, 16384])), &["expected data after that of", "ends at byte"]),
        ("an unknown type", change("dtype", json!("U2")), &[LINEAR, "found U2 [64, 256]"]),
        ("code 3", files.clone().put(LINEAR, 300, &[0b0011_0001]), &[LINEAR, "U8", "300"]),
        ("a scale that is NaN", files.clone().put(SCALE, 0, &bf16(0x7fc0)), &[SCALE, "other than 0, found NaN"]),
        ("a scale without end", files.clone().put(SCALE, 0, &bf16(0xff80)), &[SCALE, "other than 0, found -inf"]),
        (
            "a norm that is NaN",
            files.clone().put(NORM, 6, &bf16(0x7fc0)),
            &[NORM, "expected finite numbers, found NaN at 3"],
        ),
    ]);
    let online = Files::new(Format::HfBf16);
    let odd = online.put(LINEAR, 2 * (256 + 7), &bf16(0x7fc0));
    check(vec![("a master weight that is NaN", odd, &[LINEAR, "found NaN in row 1 column 7"])]);
}

#[test]
fn configurations() {
    let files = Files::new(Format::HfOffline);
    let with = |key: &str, value: Value| files.clone().config(key, value);
    let quantization = |class: &str, mode: &str| {
        with("quantization_config", json!({"quant_method": "bitnet", "linear_class": class, "quantization_mode": mode}))
    };
    check(vec![
        (
            "another vocabulary",
            with("vocab_size", json!(321)),
            &["model.embed_tokens.weight", "[321, 256]", "[320, 256]"],
        ),
        (
            "a huge vocabulary",
            with("vocab_size", json!(u64::MAX)),
            &["model.embed_tokens.weight", "18446744073709551615"],
        ),
        ("another width", with("hidden_size", json!(512)), &["model.embed_tokens.weight", "[320, 512]"]),
        ("a huge width", with("hidden_size", json!(1u64 << 62)), &["model.embed_tokens.weight"]),
        (
            "another inner width",
            with("intermediate_size", json!(1024)),
            &["mlp.gate_proj.weight", "U8 [256, 256]", "U8 [128, 256]"],
        ),
        (
            "an inner width that does not fill bytes",
            with("intermediate_size", json!(514)),
            &["mlp.gate_proj.weight", "divisible by 4"],
        ),
        (
            "more blocks than there are",
            with("num_hidden_layers", json!(65536)),
            &["model.layers.2.input_layernorm.weight", "no such tensor"],
        ),
        (
            "more blocks than any model has",
            with("num_hidden_layers", json!(u64::MAX)),
            &["`num_hidden_layers`", "at most 65536"],
        ),
        (
            "no quantisation",
            with("quantization_config", Value::Null),
            &[LINEAR, "F32, F16 or BF16 [256, 256]", "U8 [64, 256]"],
        ),
        ("online", quantization("autobitlinear", "online"), &[LINEAR, "F32, F16 or BF16 [256, 256]", "U8 [64, 256]"]),
        (
            "an unknown class",
            quantization("trilinear", "offline"),
            &["`quantization_config.linear_class`", "autobitlinear offline, autobitlinear online, bitlinear offline"],
        ),
        ("a head that is not there", with("tie_word_embeddings", json!(false)), &["lm_head.weight", "no such tensor"]),
    ]);
}

/// transformers would load these with a warning, or compute something else.
#[test]
fn tensors_that_are_left_over() {
    let files = Files::new(Format::HfOffline);
    let bias = "model.layers.0.self_attn.q_proj.bias";
    check(vec![
        (
            "fewer layers than there are",
            files.clone().config("num_hidden_layers", json!(1)),
            &["`model.layers.1.input_layernorm.weight`", "1 layers, the `num_hidden_layers`", "one of layer 1"],
        ),
        ("a bias", files.clone().vector(bias, &[50.0; 256]), &[bias, "F32 [256]", "left out of the computation"]),
        (
            "a scale of weights that have none",
            Files::new(Format::HfBf16).vector(SCALE, &[2.0]),
            &[SCALE, "F32 [1]", "left out of the computation"],
        ),
    ]);
    // What transformers ignores.
    let angles = files.clone().vector("model.layers.0.self_attn.rotary_emb.inv_freq", &[1.0; 32]);
    assert_eq!(angles.load(), Ok(()));
    assert_eq!(files.clone().vector("lm_head.weight", &[1.0; 4]).load(), Ok(()));
}

#[test]
fn many_tensors_over_one_of_a_long_name() {
    let tensors = 20_000u64;
    let entry = |name: &str, start: u64, length: u64| {
        let offsets = [start, start + length];
        format!("\"{name}\":{}", json!({"dtype": "U8", "shape": [length], "data_offsets": offsets}))
    };
    let with = |name: &str| {
        let entries = (0..tensors).map(|index| entry(&format!("t{index}"), 8 * index, 8));
        let entries: Vec<String> = [entry(name, 0, 8 * tensors)].into_iter().chain(entries).collect();
        let data = vec![0; 8 * usize::try_from(tensors).expect("small")];
        Files { head: format!("{{{}}}", entries.join(",")), data, ..Files::new(Format::HfOffline) }
    };
    let files = with(&"n".repeat(65535));
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("config.json"), files.config.to_string()).expect("written");
    fs::write(directory.path().join("model.safetensors"), files.file(files.head.len() as u64)).expect("written");
    few_short_problems(directory.path(), tensors);
    check(vec![("a longer name", with(&"n".repeat(65536)), &["a name of 65536 bytes; expected at most 65535"])]);
}
