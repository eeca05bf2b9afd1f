//! Makes layers from the tensors of a checkpoint, by the names that transformers gives them.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use candle_core::{Device, Tensor};
use half::{bf16, f16};

use super::gguf;
use super::stored::{StoredTensor, StoredType};
use crate::bit_linear::{BitLinear, WeightScale, quantize_weights};
use crate::config::{Config, Flavour};
use crate::error::{Error, Result};
use crate::kernels::{FloatMatrix, FloatType, Packing, TernaryMatrix};
use crate::linear::Linear;
use crate::rms_norm::RmsNorm;

/// Ternary values in a byte of Hugging Face's packing.
const PACKED: usize = 4;
/// The types of vectors, and of matrices that are not ternary, in words.
const FLOATS: &str = "F32, F16 or BF16";

/// All tensors of a checkpoint by the names in its files.
#[derive(Debug)]
pub(super) struct Tensors {
    /// The file, or the directory of several, for messages.
    pub(super) place: String,
    pub(super) by_name: HashMap<String, StoredTensor>,
}

/// The tensors whose names begin with a prefix.
#[derive(Debug, Clone)]
pub struct Weights<'a> {
    tensors: &'a Tensors,
    flavour: Flavour,
    prefix: String,
    /// The names in the file of the tensors that became layers, of this value and all that [`Self::at`] made of it.
    used: Arc<Mutex<HashSet<&'a str>>>,
}

impl<'a> Weights<'a> {
    pub(super) fn new(tensors: &'a Tensors, flavour: Flavour) -> Self {
        Self { tensors, flavour, prefix: String::new(), used: Arc::default() }
    }

    /// The tensors whose names begin with this prefix and `name`.
    #[must_use]
    pub fn at(&self, name: &str) -> Self {
        Self { prefix: self.name(name), ..self.clone() }
    }

    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.by_name.contains_key(&self.stored_name(name))
    }

    /// A vector such as the weights of a norm, widened to f32.
    ///
    /// # Errors
    ///
    /// If it is missing, has another shape or type, or holds a number that is not finite.
    pub fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let expected = || format!("{FLOATS} [{width}]");
        let tensor = self.tensor(name, expected)?;
        let values = (tensor.shape == [width]).then(|| floats(tensor)).flatten();
        let values = values.ok_or_else(|| tensor.error(expected(), tensor.describe()))?;
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(tensor.error("finite numbers", format!("{} at {at}", values[at]))),
            None => Ok(values),
        }
    }

    /// A matrix of floating-point numbers as it is stored, such as the embeddings, `[rows, columns]`.
    ///
    /// # Errors
    ///
    /// If it is missing or has another shape or type.
    pub fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<FloatMatrix> {
        let types = if self.flavour == Flavour::Gguf { "F32, F16, BF16 or Q8_0" } else { FLOATS };
        let expected = || format!("{types} [{rows}, {columns}]");
        let tensor = self.tensor(name, expected)?;
        match float_type(&tensor.kind) {
            Some(kind) if tensor.shape == [rows, columns] => float_matrix(tensor, kind, rows, columns),
            _ => Err(tensor.error(expected(), tensor.describe())),
        }
    }

    /// A linear layer from `columns` inputs to `rows` outputs, however it is stored: `name` is that of the layer.
    ///
    /// # Errors
    ///
    /// If the weight or its scale is missing or has another shape or type, or holds a code or number that is not
    /// valid.
    pub fn linear(&self, name: &str, rows: usize, columns: usize) -> Result<Linear> {
        let weight = format!("{name}.weight");
        match self.flavour {
            Flavour::Unquantised => Ok(Linear::Dense(self.matrix(&weight, rows, columns)?)),
            Flavour::Online => self.master(&weight, rows, columns).map(Linear::Ternary),
            Flavour::Offline | Flavour::BitLinear => self.packed(name, rows, columns).map(Linear::Ternary),
            Flavour::Gguf => self.in_gguf(name, rows, columns),
        }
    }

    /// Float master weights, made ternary here.
    fn master(&self, weight: &str, rows: usize, columns: usize) -> Result<BitLinear> {
        let expected = || format!("{FLOATS} [{rows}, {columns}]");
        let tensor = self.tensor(weight, expected)?;
        let values = (tensor.shape == [rows, columns]).then(|| floats(tensor)).flatten();
        let values = values.ok_or_else(|| tensor.error(expected(), tensor.describe()))?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let found = format!("{} in row {} column {}", values[at], at / columns, at % columns);
            return Err(tensor.error("finite numbers", found));
        }
        let (matrix, scale) = quantize_weights(&values, rows, columns);
        Ok(BitLinear::new(matrix, scale))
    }

    /// Hugging Face's packed weights and their scale.
    fn packed(&self, name: &str, rows: usize, columns: usize) -> Result<BitLinear> {
        // With a number of rows that does not fill the bytes no shape can be right, and the message says so.
        let expected = || format!("U8 [{}, {columns}]", rows / PACKED);
        let tensor = self.tensor(&format!("{name}.weight"), expected)?;
        if tensor.kind != StoredType::U8 || tensor.shape != [rows / PACKED, columns] {
            return Err(tensor.error(expected(), tensor.describe()));
        }
        if !rows.is_multiple_of(PACKED) {
            return Err(tensor.error(format!("a number of outputs divisible by {PACKED}"), rows.to_string()));
        }
        let matrix = ternary(tensor, Packing::HuggingFace, rows, columns, tensor.data.clone())?;
        let scale = self.scale(&format!("{name}.weight_scale"))?;
        let scale = match self.flavour {
            Flavour::BitLinear => WeightScale::Divide(scale),
            _ => WeightScale::Multiply(scale),
        };
        Ok(BitLinear::new(matrix, scale))
    }

    /// The weight of a GGUF file, which says itself how it is stored, times its optional scale.
    fn in_gguf(&self, name: &str, rows: usize, columns: usize) -> Result<Linear> {
        let weight = format!("{name}.weight");
        let expected =
            || format!("I2_S, TQ1_0, TQ2_0, F32, F16, BF16 or Q8_0 [{rows}, {columns}] (or convert the checkpoint)");
        let tensor = self.tensor(&weight, expected)?;
        if tensor.shape != [rows, columns] {
            return Err(tensor.error(format!("[{rows}, {columns}]"), tensor.describe()));
        }
        let scale_name = format!("{name}.weight_scale");
        let scale = if self.has(&scale_name) { self.scale(&scale_name)? } else { 1.0 };
        let packed = |packing, data| ternary(tensor, packing, rows, columns, data);
        let (matrix, scale) = match &tensor.kind {
            StoredType::I2S => {
                let (matrix, own) = i2_s(tensor, rows, columns)?;
                (matrix, own * scale)
            }
            StoredType::Tq1_0 => (packed(Packing::Tq1_0, tensor.data.clone())?, scale),
            StoredType::Tq2_0 => (packed(Packing::Tq2_0, tensor.data.clone())?, scale),
            kind => {
                let Some(kind) = float_type(kind) else {
                    let found = format!("{}: {}", tensor.describe(), gguf::types::advice(&tensor.kind));
                    return Err(tensor.error("I2_S, TQ1_0, TQ2_0, F32, F16, BF16 or Q8_0", found));
                };
                let matrix = float_matrix(tensor, kind, rows, columns)?;
                #[allow(clippy::float_cmp)] // exactly 1, or a product is due
                let matrix = if scale == 1.0 { matrix } else { scaled(tensor, &matrix, scale, rows, columns)? };
                return Ok(Linear::Dense(matrix));
            }
        };
        Ok(Linear::Ternary(BitLinear::new(matrix, WeightScale::Multiply(scale))))
    }

    /// A scale: one number.
    fn scale(&self, name: &str) -> Result<f32> {
        let expected = || format!("{FLOATS} [1]");
        let tensor = self.tensor(name, expected)?;
        let values = if tensor.shape == [1] || tensor.shape.is_empty() { floats(tensor) } else { None };
        let Some(&[scale]) = values.as_deref() else { return Err(tensor.error(expected(), tensor.describe())) };
        usable(tensor, scale)
    }

    fn tensor(&self, name: &str, expected: impl FnOnce() -> String) -> Result<&'a StoredTensor> {
        let name = self.stored_name(name);
        match self.tensors.by_name.get(&name) {
            Some(tensor) => {
                self.used.lock().unwrap_or_else(PoisonError::into_inner).insert(&tensor.name);
                Ok(tensor)
            }
            None => Err(Error::Tensor {
                file: self.tensors.place.clone(),
                tensor: name,
                expected: expected(),
                found: "no such tensor".to_owned(),
            }),
        }
    }

    /// Checks that the checkpoint has no tensors besides those that became layers: one that is left over is of a model
    /// that computes something else, such as one with more layers or with biases.
    ///
    /// # Errors
    ///
    /// If there is one; the first by name.
    pub(crate) fn nothing_left(&self, config: &Config) -> Result<()> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |tensor: &&StoredTensor| !used.contains(&*tensor.name) && !self.is_ignored(&tensor.name, config);
        let Some(tensor) = self.tensors.by_name.values().filter(left).min_by_key(|tensor| &tensor.name) else {
            return Ok(());
        };
        let in_gguf = self.flavour == Flavour::Gguf;
        let layer = tensor.name.strip_prefix(if in_gguf { "blk." } else { "model.layers." });
        let layer = layer.and_then(|name| name.split('.').next()?.parse::<usize>().ok());
        Err(match layer.filter(|layer| *layer >= config.num_hidden_layers) {
            Some(layer) => tensor.error(
                format!(
                    "tensors of {} layers, the `{}` of the configuration",
                    config.num_hidden_layers,
                    if in_gguf { "block_count" } else { "num_hidden_layers" }
                ),
                format!("one of layer {layer}, counted from 0; configuration and tensors must be of one checkpoint"),
            ),
            None => tensor.error(
                "only tensors that docs/FORMATS.md lists",
                format!(
                    "{}, which would be left out of the computation; convert the original checkpoint again, or remove \
                     the tensor if it has no effect",
                    tensor.describe()
                ),
            ),
        })
    }

    /// Whether transformers ignores a tensor too: the angles of the rotary embedding, which old versions stored, and the
    /// head of a model whose head is the embeddings. The converters to GGUF leave both out.
    fn is_ignored(&self, name: &str, config: &Config) -> bool {
        let head = config.tie_word_embeddings && name == "lm_head.weight";
        self.flavour != Flavour::Gguf && (head || name.ends_with(".rotary_emb.inv_freq"))
    }

    fn name(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_owned() } else { format!("{}.{name}", self.prefix) }
    }

    fn stored_name(&self, name: &str) -> String {
        let name = self.name(name);
        if self.flavour == Flavour::Gguf { gguf::in_gguf(&name) } else { name }
    }

    // What the model files call until they hold matrices as they are stored.

    /// A float tensor of this shape.
    ///
    /// # Errors
    ///
    /// If it is missing or has another shape or type.
    pub fn f32(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        if let &[rows, columns] = shape {
            let matrix = self.matrix(name, rows, columns)?;
            let mut values = vec![0.0; rows * columns];
            for (index, row) in values.chunks_exact_mut(columns).enumerate() {
                matrix.row(index, row);
            }
            return Ok(Tensor::from_vec(values, shape, &Device::Cpu)?);
        }
        Ok(Tensor::from_vec(self.vector(name, shape.iter().product())?, shape, &Device::Cpu)?)
    }

    pub(crate) fn rms_norm(&self, name: &str, width: usize, config: &Config) -> Result<RmsNorm> {
        let weight = self.vector(&format!("{name}.weight"), width)?;
        Ok(RmsNorm::new(weight, config.rms_norm_eps))
    }
}

/// A tensor's numbers widened to f32; `None` if it is of another type.
fn floats(tensor: &StoredTensor) -> Option<Vec<f32>> {
    let data = &tensor.data;
    match tensor.kind {
        StoredType::F32 => Some(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()),
        StoredType::F16 => Some(data.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()),
        StoredType::Bf16 => Some(data.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()),
        _ => None,
    }
}

fn float_type(kind: &StoredType) -> Option<FloatType> {
    match kind {
        StoredType::F32 => Some(FloatType::F32),
        StoredType::F16 => Some(FloatType::F16),
        StoredType::Bf16 => Some(FloatType::Bf16),
        StoredType::Q8_0 => Some(FloatType::Q8_0),
        _ => None,
    }
}

fn float_matrix(tensor: &StoredTensor, kind: FloatType, rows: usize, columns: usize) -> Result<FloatMatrix> {
    FloatMatrix::new(kind, rows, columns, tensor.data.clone())
        .map_err(|error| tensor.error(format!("a matrix of {}", tensor.kind), error.to_string()))
}

fn ternary(tensor: &StoredTensor, packing: Packing, rows: usize, columns: usize, data: Bytes) -> Result<TernaryMatrix> {
    TernaryMatrix::new(packing, rows, columns, data)
        .map_err(|error| tensor.error(format!("ternary weights packed as {}", tensor.kind), error.to_string()))
}

/// The packed values of an I2_S tensor and, from its tail, its scale.
fn i2_s(tensor: &StoredTensor, rows: usize, columns: usize) -> Result<(TernaryMatrix, f32)> {
    let packed = rows * columns / PACKED;
    let scale = tensor.data.get(packed..).and_then(|tail| tail.first_chunk());
    let Some(scale) = scale.map(|bytes| f32::from_le_bytes(*bytes)) else {
        return Err(tensor.error(format!("{packed} bytes and a scale"), format!("{} bytes", tensor.data.len())));
    };
    let matrix = ternary(tensor, Packing::I2S, rows, columns, tensor.data.slice(..packed))?;
    Ok((matrix, usable(tensor, scale)?))
}

/// A scale by which numbers can be multiplied and divided.
fn usable(tensor: &StoredTensor, scale: f32) -> Result<f32> {
    if scale.is_finite() && scale != 0.0 {
        return Ok(scale);
    }
    Err(tensor.error("a scale that is a finite number other than 0", scale.to_string()))
}

/// The product of a matrix and a number, as F32.
fn scaled(tensor: &StoredTensor, matrix: &FloatMatrix, scale: f32, rows: usize, columns: usize) -> Result<FloatMatrix> {
    let mut row = vec![0.0; columns];
    let mut data = Vec::with_capacity(rows * columns * size_of::<f32>());
    for index in 0..rows {
        matrix.row(index, &mut row);
        data.extend(row.iter().flat_map(|value| (value * scale).to_le_bytes()));
    }
    FloatMatrix::new(FloatType::F32, rows, columns, data.into())
        .map_err(|error| tensor.error("a matrix of F32", error.to_string()))
}
