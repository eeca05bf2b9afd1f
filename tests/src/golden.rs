//! Activations of real reference implementations, see the fixtures' README files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bitnet_models::Checkpoint;
use candle_core::{Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// The prompt of all fixtures.
pub const TOKENS: [u32; 12] = [1, 17, 200, 3, 99, 255, 42, 7, 128, 64, 5, 5];
/// Blocks of the model.
pub const LAYERS: usize = 2;

/// The stages in a block, by our names and by the reference's.
pub const BLOCK_STAGES: [(&str, &str); 18] = [
    ("attn_norm", "attn_norm"),
    ("q_proj", "q_proj"),
    ("k_proj", "k_proj"),
    ("v_proj", "v_proj"),
    ("q_rope", "q_rope"),
    ("k_rope", "k_rope"),
    ("attn_scores_softmax", "attn_probs"),
    ("attn_ctx", "attn_ctx"),
    ("attn_sub_norm", "attn_sub_norm"),
    ("o_proj", "o_proj"),
    ("attn_residual", "attn_residual"),
    ("ffn_norm", "ffn_norm"),
    ("gate_proj", "gate_proj"),
    ("up_proj", "up_proj"),
    ("ffn_act", "relu2_gate_mul_up"),
    ("ffn_sub_norm", "ffn_sub_norm"),
    ("down_proj", "down_proj"),
    ("block_out", "out"),
];

/// (layer, our stage) and the reference's key, for every stage.
#[must_use]
pub fn stages() -> Vec<(Option<usize>, &'static str, String)> {
    let mut stages = vec![(None, "embeddings", "embd".to_owned())];
    for layer in 0..LAYERS {
        stages.extend(BLOCK_STAGES.map(|(ours, theirs)| (Some(layer), ours, format!("l{layer}.{theirs}"))));
    }
    stages.push((None, "final_norm", "result_norm".to_owned()));
    stages.push((None, "logits", "logits".to_owned()));
    stages
}

/// The path of a file of Hugging Face's activations.
#[must_use]
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hf-bitnet-tiny").join(name)
}

/// The checkpoint of a flavour. That of `noquant` has the weights of `online` and a configuration without quantisation.
///
/// # Panics
///
/// If a file is missing or damaged.
#[must_use]
pub fn checkpoint(flavour: &str) -> Checkpoint {
    let Some(dtype) = flavour.strip_prefix("noquant_") else {
        return Checkpoint::open(fixture(flavour)).expect("a checkpoint");
    };
    let directory = tempfile::tempdir().expect("a directory");
    for (from, file) in [(flavour, "config.json"), (&*format!("online_{dtype}"), "model.safetensors")] {
        std::fs::copy(fixture(from).join(file), directory.path().join(file)).expect("copied");
    }
    // The tensors stay mapped when the directory is gone.
    Checkpoint::open(directory.path()).expect("a checkpoint")
}

/// Reads a file of activations. candle has no int8, so I8 is converted to f32, and BF16 too.
///
/// # Panics
///
/// If it is missing or damaged.
#[must_use]
pub fn activations(path: &Path) -> HashMap<String, Tensor> {
    let bytes = std::fs::read(path).expect("the fixture");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    file.iter().map(|(name, view)| (name.to_owned(), tensor(&view))).collect()
}

fn tensor(view: &TensorView<'_>) -> Tensor {
    let values: Vec<f32> = match view.dtype() {
        Dtype::F32 => view.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Dtype::BF16 => {
            let widened = |bytes: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
            view.data().as_chunks().0.iter().map(widened).collect()
        }
        Dtype::I8 => view.data().iter().map(|byte| f32::from(byte.cast_signed())).collect(),
        other => panic!("the fixture has a tensor of type {other:?}"),
    };
    Tensor::from_vec(values, view.shape(), &Device::Cpu).expect("a whole tensor")
}
