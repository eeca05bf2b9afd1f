//! Random checkpoints of exactly the formats that are published, from a seed.
//!
//! Of one seed and shape, all formats but `hf-bf16` hold the same numbers, so they give the same logits bit for bit.
//! `hf-bf16` holds float master weights that become the same ternary values, with a scale that is the mean of their
//! magnitudes and so not exactly the same.

mod gguf;
mod hugging_face;
mod values;

use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use crate::config::Activation;
use crate::error::{Error, Result};

/// What marks a checkpoint as made here, so that it may be replaced.
const MARK: &str = "bitnet synth";

/// How the names of temporary files and directories begin, which are beside the place that is written to.
const PREFIX: &str = ".bitnet-synth-";

/// Sizes of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Width 256, feed-forward 512, 2 layers, 4 heads, 320 tokens: a quarter of a megabyte.
    Tiny,
    /// That of BitNet b1.58 2B4T: width 2560, feed-forward 6912, 30 layers, 20 heads, 128256 tokens.
    TwoB4T,
}

/// The files that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A directory as the packed repository: uint8, scales and the rest bfloat16.
    HfOffline,
    /// A directory as the `-bf16` repository: bfloat16 master weights, quantised when loaded.
    HfBf16,
    /// GGUF with I2_S, as published by Microsoft.
    I2S,
    /// GGUF with TQ1_0.
    Tq1_0,
    /// GGUF with TQ2_0.
    Tq2_0,
}

/// A checkpoint to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synth {
    /// Sizes.
    pub shape: Shape,
    /// Files.
    pub format: Format,
    /// The activation. GGUF says it by the architecture: `bitnet-b1.58` for squared ReLU, `bitnet` for SiLU, which is the
    /// one that llama.cpp opens.
    pub activation: Activation,
    /// Decides all numbers.
    pub seed: u64,
}

impl Synth {
    /// Writes the checkpoint, a file for GGUF and a directory otherwise, row by row. It appears under its name when it is
    /// whole. `progress` gets the bytes written so far and their final number.
    ///
    /// # Errors
    ///
    /// If something is there that was not written by this function, or a file cannot be written.
    pub fn write(&self, out: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let go_on = &mut |written, total| {
            progress(written, total);
            true
        };
        self.write_while(out, go_on).map(drop)
    }

    /// As [`Self::write`], as long as `go_on` returns `true`; it is called after each row. Returns whether the checkpoint
    /// was written. If not, nothing is left of it, and what it would have replaced stays.
    ///
    /// # Errors
    ///
    /// Those of [`Self::write`].
    pub fn write_while(&self, out: &Path, go_on: &mut dyn FnMut(u64, u64) -> bool) -> Result<bool> {
        let mut stopped = false;
        let go_on = &mut |written, total| {
            stopped = !go_on(written, total);
            !stopped
        };
        let written = match self.format {
            Format::HfOffline | Format::HfBf16 => hugging_face::write(self, out, go_on),
            Format::I2S | Format::Tq1_0 | Format::Tq2_0 => gguf::write(self, out, go_on),
        };
        if stopped { Ok(false) } else { written.map(|()| true) }
    }

    /// The tensors in the order of the file: transformers' names, and what they are.
    fn tensors(&self) -> Vec<(String, Kind)> {
        let sizes = self.shape.sizes();
        let (hidden, inner) = (sizes.hidden, sizes.inner);
        let kv = hidden / sizes.heads * sizes.kv_heads;
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), Kind::Embedding(sizes.vocabulary, hidden))];
        for layer in 0..sizes.layers {
            let mut add = |name: &str, kind| tensors.push((format!("model.layers.{layer}.{name}.weight"), kind));
            add("input_layernorm", Kind::Norm(hidden));
            add("self_attn.q_proj", Kind::Ternary(hidden, hidden));
            add("self_attn.k_proj", Kind::Ternary(kv, hidden));
            add("self_attn.v_proj", Kind::Ternary(kv, hidden));
            add("self_attn.attn_sub_norm", Kind::Norm(hidden));
            add("self_attn.o_proj", Kind::Ternary(hidden, hidden));
            add("post_attention_layernorm", Kind::Norm(hidden));
            add("mlp.gate_proj", Kind::Ternary(inner, hidden));
            add("mlp.up_proj", Kind::Ternary(inner, hidden));
            add("mlp.ffn_sub_norm", Kind::Norm(inner));
            add("mlp.down_proj", Kind::Ternary(hidden, inner));
        }
        tensors.push(("model.norm.weight".to_owned(), Kind::Norm(hidden)));
        tensors
    }
}

/// What a tensor is: rows and columns, or a width.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Embedding(usize, usize),
    Norm(usize),
    Ternary(usize, usize),
}

/// The numbers of a shape.
struct Sizes {
    hidden: usize,
    inner: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    vocabulary: usize,
    context: usize,
    begin: u32,
    end: u32,
}

impl Shape {
    fn sizes(self) -> Sizes {
        match self {
            Self::Tiny => Sizes {
                hidden: 256,
                inner: 512,
                layers: 2,
                heads: 4,
                kv_heads: 2,
                vocabulary: 320,
                context: 128,
                begin: 1,
                end: 2,
            },
            Self::TwoB4T => Sizes {
                hidden: 2560,
                inner: 6912,
                layers: 30,
                heads: 20,
                kv_heads: 5,
                vocabulary: 128_256,
                context: 4096,
                begin: 128_000,
                end: 128_001,
            },
        }
    }

    fn name(self) -> &'static str {
        SHAPES.iter().find(|(_, shape)| *shape == self).map_or("", |(name, _)| name)
    }
}

/// The base of the rotary embedding's frequencies and the norms' epsilon, as published.
const ROPE_THETA: f32 = 500_000.0;
const RMS_NORM_EPS: f32 = 1e-5;

const SHAPES: [(&str, Shape); 2] = [("tiny", Shape::Tiny), ("2b-4t", Shape::TwoB4T)];
const FORMATS: [(&str, Format); 5] = [
    ("hf-offline", Format::HfOffline),
    ("hf-bf16", Format::HfBf16),
    ("i2_s", Format::I2S),
    ("tq1_0", Format::Tq1_0),
    ("tq2_0", Format::Tq2_0),
];

fn named<T: Copy>(known: &[(&str, T)], name: &str) -> std::result::Result<T, String> {
    let found = known.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        format!("expected one of: {}", names.join(", "))
    })
}

impl FromStr for Shape {
    type Err = String;
    fn from_str(name: &str) -> std::result::Result<Self, String> {
        named(&SHAPES, name)
    }
}

impl FromStr for Format {
    type Err = String;
    fn from_str(name: &str) -> std::result::Result<Self, String> {
        named(&FORMATS, name)
    }
}

/// Counts what is written.
struct Counted<'a, W> {
    to: W,
    written: u64,
    total: u64,
    /// Gets both numbers; `false` ends the writing.
    go_on: &'a mut dyn FnMut(u64, u64) -> bool,
}

impl<W: Write> Counted<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.written += bytes.len() as u64;
        if (self.go_on)(self.written, self.total) { Ok(()) } else { Err(io::Error::other("stopped")) }
    }
}

/// Refuses to replace something that was not written here.
fn refuse_foreign(out: &Path, what: &str) -> Error {
    Error::Format {
        file: out.display().to_string(),
        reason: format!("exists and is not a {what} that `{MARK}` wrote; name another place, or remove it first"),
    }
}

fn write_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Write { path, source }
}

/// The directory that a path is in.
fn parent(out: &Path) -> &Path {
    match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
