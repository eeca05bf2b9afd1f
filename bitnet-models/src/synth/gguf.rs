//! Writes a synthetic GGUF file.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::f16;

use super::values::{embedding, embedding_value, norm, scale, ternary};
use super::{
    Counted, Format, Kind, MARK, PREFIX, RMS_NORM_EPS, ROPE_THETA, Synth, parent, refuse_foreign, write_error,
};
use crate::bytes::map;
use crate::checkpoint::gguf::types::{F16, F32, I2_S, I2_S_TAIL, TQ1_0, TQ2_0};
use crate::checkpoint::gguf::writer::{Planned, head, padding};
use crate::checkpoint::gguf::{Value, in_gguf, scan};
use crate::checkpoint::pack;
use crate::config::Activation;
use crate::error::{Error, Result};

/// The key by which a file is known to be written here.
const KEY: &str = "general.quantized_by";

pub(super) fn write(synth: &Synth, out: &Path, go_on: &mut dyn FnMut(u64, u64) -> bool) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        let ours = map(out).is_ok_and(|bytes| {
            let head = scan("", &bytes);
            matches!(head.metadata.get(KEY), Some(Value::String(by)) if by == MARK)
        });
        if !ours {
            return Err(refuse_foreign(out, "GGUF file"));
        }
    }
    let tensors = synth.tensors();
    let planned: Vec<Planned> = tensors.iter().map(|(name, kind)| plan(synth, name, *kind)).collect();
    let Some(head) = head(&metadata(synth), &planned) else {
        return Err(Error::Format { file: out.display().to_string(), reason: "the tensors are too large".to_owned() });
    };
    let data = planned.iter().filter_map(Planned::length).map(|length| length + padding(length)).sum::<u64>();
    let file = temporary().tempfile_in(parent(out)).map_err(write_error(out))?;
    let total = head.len() as u64 + data;
    let mut to = Counted { to: BufWriter::new(file), written: 0, total, go_on };
    let mut put_all = || -> io::Result<()> {
        to.put(&head)?;
        for ((name, kind), planned) in tensors.iter().zip(&planned) {
            put(synth, name, *kind, &mut to)?;
            let padding = padding(planned.length().unwrap_or(0));
            to.put(&[0; 32][..usize::try_from(padding).unwrap_or(0)])?;
        }
        to.to.flush()
    };
    put_all().map_err(write_error(out))?;
    let file = to.to.into_inner().map_err(|error| write_error(out)(error.into_error()))?;
    file.persist(out).map_err(|error| write_error(out)(error.error))?;
    Ok(())
}

/// Makes temporary files with the permissions of an ordinary one, from which the system takes those of the umask.
#[cfg(unix)]
fn temporary() -> tempfile::Builder<'static, 'static> {
    use std::os::unix::fs::PermissionsExt;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).permissions(std::fs::Permissions::from_mode(0o666));
    builder
}

#[cfg(not(unix))]
fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    builder
}

fn plan(synth: &Synth, name: &str, kind: Kind) -> Planned {
    let (shape, kind) = match kind {
        Kind::Embedding(rows, columns) => (vec![rows, columns], F16),
        Kind::Norm(width) => (vec![width], F32),
        Kind::Ternary(rows, columns) => {
            let kind = match synth.format {
                Format::Tq1_0 => TQ1_0,
                Format::Tq2_0 => TQ2_0,
                _ => I2_S,
            };
            (vec![rows, columns], kind)
        }
    };
    Planned { name: in_gguf(name), shape: shape.into_iter().map(|size| size as u64).collect(), kind }
}

/// The data of a tensor, row by row.
fn put<W: Write>(synth: &Synth, name: &str, kind: Kind, to: &mut Counted<'_, W>) -> io::Result<()> {
    let mut bytes = Vec::new();
    match kind {
        Kind::Embedding(rows, columns) => {
            let table: Vec<[u8; 2]> =
                (0..=u8::MAX).map(|steps| f16::from_f32(embedding_value(steps.cast_signed())).to_le_bytes()).collect();
            let mut row = vec![0; columns];
            for index in 0..rows {
                embedding(synth.seed, name, index, &mut row);
                bytes.clear();
                bytes.extend(row.iter().flat_map(|steps| table[usize::from(steps.cast_unsigned())]));
                to.put(&bytes)?;
            }
        }
        Kind::Norm(width) => {
            bytes.extend(norm(synth.seed, name, width).into_iter().flat_map(f32::to_le_bytes));
            to.put(&bytes)?;
        }
        Kind::Ternary(rows, columns) => {
            let scale = scale(synth.seed, name, columns);
            let mut row = vec![0; columns];
            for index in 0..rows {
                ternary(synth.seed, name, index, &mut row);
                bytes.clear();
                match synth.format {
                    Format::Tq1_0 => pack::tq1_0(&row, f16::from_f32(scale), &mut bytes),
                    Format::Tq2_0 => pack::tq2_0(&row, f16::from_f32(scale), &mut bytes),
                    _ => pack::i2_s(&row, &mut bytes),
                }
                to.put(&bytes)?;
            }
            if synth.format == Format::I2S {
                bytes.clear();
                bytes.extend(scale.to_le_bytes());
                bytes.resize(I2_S_TAIL, 0);
                to.put(&bytes)?;
            }
        }
    }
    Ok(())
}

/// The keys that both converters write, without a vocabulary.
#[allow(clippy::cast_possible_truncation)] // the sizes of the shapes
fn metadata(synth: &Synth) -> Vec<(String, Value)> {
    let sizes = synth.shape.sizes();
    let architecture = match synth.activation {
        Activation::Relu2 => "bitnet-b1.58",
        Activation::Silu => "bitnet",
    };
    // LLAMA_FTYPE_MOSTLY_TQ1_0, _TQ2_0 (llama.cpp) and _I2_S (Microsoft's fork).
    let file_type = match synth.format {
        Format::Tq1_0 => 36,
        Format::Tq2_0 => 37,
        _ => 40,
    };
    let text = |key: &str, value: &str| (key.to_owned(), Value::String(value.to_owned()));
    let own = |key: &str, value| (format!("{architecture}.{key}"), value);
    let size = |size: usize| Value::U32(size as u32);
    vec![
        text("general.architecture", architecture),
        text("general.name", &format!("synthetic {}, seed {}", synth.shape.name(), synth.seed)),
        text(KEY, MARK),
        ("general.file_type".to_owned(), Value::U32(file_type)),
        ("general.quantization_version".to_owned(), Value::U32(2)),
        own("vocab_size", size(sizes.vocabulary)),
        own("context_length", size(sizes.context)),
        own("embedding_length", size(sizes.hidden)),
        own("block_count", size(sizes.layers)),
        own("feed_forward_length", size(sizes.inner)),
        own("rope.dimension_count", size(sizes.hidden / sizes.heads)),
        own("attention.head_count", size(sizes.heads)),
        own("attention.head_count_kv", size(sizes.kv_heads)),
        own("attention.layer_norm_rms_epsilon", Value::F32(RMS_NORM_EPS)),
        own("rope.freq_base", Value::F32(ROPE_THETA)),
        text("tokenizer.ggml.model", "none"),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(sizes.begin)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(sizes.end)),
    ]
}
