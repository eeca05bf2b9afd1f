//! Converts a Hugging Face checkpoint to GGUF, to compare what is read of both.

use std::path::Path;

use bitnet_models::checkpoint::gguf::Value;
use bitnet_models::checkpoint::gguf::writer::{Planned, head, padding};
use bitnet_models::checkpoint::pack;
use bitnet_models::kernels::{Packing, TernaryMatrix};
use bitnet_models::{Activation, Checkpoint};
use bytes::Bytes;
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors};

/// A tensor of the Hugging Face checkpoint.
pub(crate) enum Stored {
    Floats(Vec<f32>),
    Ternary { values: Vec<i8>, columns: usize, scale: f32 },
}

const NAMES: [(&str, &str); 13] = [
    ("model.embed_tokens.", "token_embd."),
    ("model.norm.", "output_norm."),
    ("model.layers.", "blk."),
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("self_attn.", ""),
    ("mlp.ffn_sub_norm", "ffn_sub_norm"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("post_attention_layernorm", "ffn_norm"),
];

/// A GGUF file of the checkpoint in `directory`: `how` gives each tensor's type in ggml and its bytes; `scales` are added.
#[allow(clippy::cast_possible_truncation)] // constants that were f32
pub(crate) fn convert(
    directory: &Path,
    scales: &[(&str, f32)],
    how: impl Fn(&str, &Stored) -> (u32, Vec<u8>),
) -> Bytes {
    let config = Checkpoint::open(directory).expect("a checkpoint").config;
    let file = std::fs::read(directory.join("model.safetensors")).expect("the tensors");
    let tensors = SafeTensors::deserialize(&file).expect("whole");
    let (mut planned, mut datas) = (Vec::new(), Vec::new());
    for (name, view) in tensors.tensors() {
        if name.ends_with("_scale") {
            continue;
        }
        let mut shape: Vec<u64> = view.shape().iter().map(|size| *size as u64).collect();
        let stored = if view.dtype() == Dtype::U8 {
            let (rows, columns) = (view.shape()[0] * 4, view.shape()[1]);
            shape[0] *= 4;
            let data = Bytes::copy_from_slice(view.data());
            let values = TernaryMatrix::new(Packing::HuggingFace, rows, columns, data).expect("whole").values();
            let scale = tensors.tensor(&format!("{name}_scale")).expect("a scale");
            Stored::Ternary { values, columns, scale: floats(scale.data())[0] }
        } else {
            Stored::Floats(floats(view.data()))
        };
        let mut name = name.replace("input_layernorm", "attn_norm");
        for (from, to) in NAMES {
            name = name.replace(from, to);
        }
        let (kind, data) = how(&name, &stored);
        planned.push(Planned { name, shape, kind });
        datas.push(data);
    }
    for (name, scale) in scales {
        planned.push(Planned { name: (*name).to_owned(), shape: vec![1], kind: 0 });
        datas.push(scale.to_le_bytes().to_vec());
    }
    let size = |size: usize| Value::U32(u32::try_from(size).expect("small"));
    let architecture = if config.hidden_act == Activation::Relu2 { "bitnet-25" } else { "bitnet" };
    let own = |key: &str, value| (format!("{architecture}.{key}"), value);
    let metadata = [
        ("general.architecture".to_owned(), Value::String(architecture.to_owned())),
        own("context_length", size(config.max_position_embeddings)),
        own("embedding_length", size(config.hidden_size)),
        own("block_count", size(config.num_hidden_layers)),
        own("feed_forward_length", size(config.intermediate_size)),
        own("attention.head_count", size(config.num_attention_heads)),
        own("attention.head_count_kv", size(config.num_key_value_heads)),
        own("attention.layer_norm_rms_epsilon", Value::F32(config.rms_norm_eps as f32)),
        own("rope.freq_base", Value::F32(config.rope_theta as f32)),
        own("rope.scaling.type", Value::String("linear".to_owned())),
        own("rope.scaling.factor", Value::F32(1.0)),
    ];
    let mut bytes = head(&metadata, &planned).expect("known sizes");
    for (tensor, data) in planned.iter().zip(datas) {
        assert_eq!(tensor.length(), Some(data.len() as u64), "{}", tensor.name);
        bytes.extend(&data);
        bytes.resize(bytes.len() + usize::try_from(padding(data.len() as u64)).expect("small"), 0);
    }
    bytes.into()
}

fn floats(data: &[u8]) -> Vec<f32> {
    data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

pub(crate) fn i2_s(values: &[i8], columns: usize, scale: f32) -> (u32, Vec<u8>) {
    let mut data = Vec::new();
    values.chunks(columns).for_each(|row| pack::i2_s(row, &mut data));
    data.extend(scale.to_le_bytes());
    data.extend([0xa5; 28]);
    (36, data)
}

pub(crate) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(crate) fn f16_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect()
}

pub(crate) fn bf16_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| bf16::from_f32(*value).to_le_bytes()).collect()
}

/// Blocks of 32 values: a scale as f16, and int8.
#[allow(clippy::cast_possible_truncation)] // at most 127
pub(crate) fn q8_0_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in values.chunks(32) {
        let scale = block.iter().fold(0f32, |max, value| max.max(value.abs())) / 127.0;
        bytes.extend(f16::from_f32(scale).to_le_bytes());
        bytes.extend(block.iter().map(|value| ((value / scale).round() as i8).cast_unsigned()));
    }
    bytes
}
