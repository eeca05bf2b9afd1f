//! Writes a synthetic Hugging Face checkpoint: `config.json` and `model.safetensors`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::bf16;
use serde_json::{Map, Value, json};

use super::values::{embedding, embedding_value, master, norm, scale, ternary};
use super::{Counted, Format, Kind, MARK, PREFIX, ROPE_THETA, Synth, parent, refuse_foreign, write_error};
use crate::bytes::read;
use crate::checkpoint::{CONFIG, LARGEST_JSON, TENSORS, pack};
use crate::config::Activation;
use crate::error::Result;

/// The key of `config.json` by which a checkpoint is known to be written here.
const KEY: &str = "synthesized_by";

pub(super) fn write(synth: &Synth, out: &Path, go_on: &mut dyn FnMut(u64, u64) -> bool) -> Result<()> {
    let replaced = out.symlink_metadata().is_ok();
    if replaced && !is_ours(out) {
        return Err(refuse_foreign(out, "checkpoint directory"));
    }
    let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent(out)).map_err(write_error(out))?;
    let new = directory.path().join("new");
    fs::create_dir(&new).map_err(write_error(out))?;
    let config = format!("{:#}\n", config(synth));
    fs::write(new.join(CONFIG), config).map_err(write_error(out))?;
    tensors(synth, &new.join(TENSORS), go_on).map_err(write_error(out))?;
    // The old one goes with the temporary directory.
    if replaced {
        fs::rename(out, directory.path().join("old")).map_err(write_error(out))?;
    }
    fs::rename(&new, out).map_err(write_error(out))?;
    Ok(())
}

/// Whether a directory holds nothing but the two files, and they are from here.
fn is_ours(out: &Path) -> bool {
    let only = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| [CONFIG, TENSORS].iter().any(|name| entry.file_name() == *name))
    };
    let marked = || {
        let config: Value = serde_json::from_slice(&read(&out.join(CONFIG), LARGEST_JSON).ok()?).ok()?;
        Some(config[KEY] == MARK)
    };
    !out.is_symlink() && fs::read_dir(out).is_ok_and(|mut entries| entries.all(only)) && marked() == Some(true)
}

/// As published with 2B-4T.
fn config(synth: &Synth) -> Value {
    let sizes = synth.shape.sizes();
    let mode = if synth.format == Format::HfBf16 { "online" } else { "offline" };
    json!({
        "architectures": ["BitNetForCausalLM"],
        "attention_bias": false,
        "bos_token_id": sizes.begin,
        "eos_token_id": sizes.end,
        "hidden_act": match synth.activation {
            Activation::Relu2 => "relu2",
            Activation::Silu => "silu",
        },
        "hidden_size": sizes.hidden,
        "initializer_range": 0.02,
        "intermediate_size": sizes.inner,
        "max_position_embeddings": sizes.context,
        "model_type": "bitnet",
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.kv_heads,
        "quantization_config": {
            "quant_method": "bitnet",
            "linear_class": "autobitlinear",
            "quantization_mode": mode,
            "modules_to_not_convert": null,
        },
        "rms_norm_eps": 1e-5,
        "rope_theta": ROPE_THETA,
        KEY: MARK,
        "synthesized_seed": synth.seed,
        "tie_word_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_cache": true,
        "vocab_size": sizes.vocabulary,
    })
}

fn tensors(synth: &Synth, path: &Path, go_on: &mut dyn FnMut(u64, u64) -> bool) -> io::Result<()> {
    let online = synth.format == Format::HfBf16;
    let mut head = Map::new();
    let mut end = 0;
    let mut add = |name: String, dtype: &str, shape: &[usize]| {
        let bytes = shape.iter().product::<usize>() * if dtype == "U8" { 1 } else { 2 };
        head.insert(name, json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]}));
        end += bytes;
    };
    head_entries(synth, online, &mut add);
    head.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut head = Value::Object(head).to_string().into_bytes();
    // The data begins at a multiple of eight bytes.
    head.resize(head.len().next_multiple_of(8), b' ');

    let total = 8 + head.len() as u64 + end as u64;
    let mut to = Counted { to: BufWriter::new(File::create(path)?), written: 0, total, go_on };
    to.put(&(head.len() as u64).to_le_bytes())?;
    to.put(&head)?;
    for (name, kind) in synth.tensors() {
        put(synth, &name, kind, online, &mut to)?;
    }
    to.to.flush()
}

fn head_entries(synth: &Synth, online: bool, add: &mut dyn FnMut(String, &str, &[usize])) {
    for (name, kind) in synth.tensors() {
        match kind {
            Kind::Embedding(rows, columns) => add(name, "BF16", &[rows, columns]),
            Kind::Norm(width) => add(name, "BF16", &[width]),
            Kind::Ternary(rows, columns) if online => add(name, "BF16", &[rows, columns]),
            Kind::Ternary(rows, columns) => {
                let scale = format!("{name}_scale");
                add(name, "U8", &[rows / 4, columns]);
                add(scale, "BF16", &[1]);
            }
        }
    }
}

/// The data of a tensor, row by row, and of its scale.
fn put<W: Write>(synth: &Synth, name: &str, kind: Kind, online: bool, to: &mut Counted<'_, W>) -> io::Result<()> {
    let seed = synth.seed;
    let mut bytes = Vec::new();
    match kind {
        Kind::Embedding(rows, columns) => {
            let table: Vec<[u8; 2]> =
                (0..=u8::MAX).map(|steps| bf16_bytes(embedding_value(steps.cast_signed()))).collect();
            let mut row = vec![0; columns];
            for index in 0..rows {
                embedding(seed, name, index, &mut row);
                bytes.clear();
                bytes.extend(row.iter().flat_map(|steps| table[usize::from(steps.cast_unsigned())]));
                to.put(&bytes)?;
            }
        }
        Kind::Norm(width) => {
            bytes.extend(norm(seed, name, width).into_iter().flat_map(bf16_bytes));
            to.put(&bytes)?;
        }
        Kind::Ternary(rows, columns) if online => {
            let scale = scale(seed, name, columns);
            let (mut row, mut weights) = (vec![0; columns], Vec::new());
            for index in 0..rows {
                ternary(seed, name, index, &mut row);
                weights.clear();
                master(seed, name, index, scale, &row, &mut weights);
                bytes.clear();
                bytes.extend(weights.iter().copied().flat_map(bf16_bytes));
                to.put(&bytes)?;
            }
        }
        Kind::Ternary(rows, columns) => {
            let quarter = rows / 4;
            let mut four = vec![vec![0; columns]; 4];
            for index in 0..quarter {
                for (part, row) in four.iter_mut().enumerate() {
                    ternary(seed, name, index + part * quarter, row);
                }
                bytes.clear();
                pack::hugging_face([&four[0], &four[1], &four[2], &four[3]], &mut bytes);
                to.put(&bytes)?;
            }
            to.put(&bf16_bytes(scale(seed, name, columns)))?;
        }
    }
    Ok(())
}

fn bf16_bytes(value: f32) -> [u8; 2] {
    bf16::from_f32(value).to_le_bytes()
}
