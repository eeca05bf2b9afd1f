//! The BitNet b1.58 quantisers, as straight-through operations and as packed bytes.
//!
//! Sources: "The Era of 1-bit LLMs" (arXiv 2402.17764, section 2) for the formulas; Hugging Face
//! transformers, `integrations/bitnet.py` (`AutoBitLinear`, `pack_weights`), for rounding and bytes.
//!
//! Rounding is half to even, as `torch.round` does it. Candle's `Tensor::round` rounds halves away
//! from zero, hence the two host operations here. Their backward is the identity: the
//! straight-through estimator `x + (q(x) - x).detach()` without its two roundings of the sum.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType, bail};

/// The smallest magnitude a scale is computed from, `clamp(min=1e-5)` in the reference.
const SMALLEST: f32 = 1e-5;

/// The largest int8 activation.
const ACTIVATION_MAX: f32 = 127.0;

/// The smallest int8 activation.
const ACTIVATION_MIN: f32 = -128.0;

/// Ternary weights that share a packed byte.
pub(crate) const WEIGHTS_PER_BYTE: usize = 4;

/// Rounds activations to int8 and back, one scale a row of the last dimension; same shape.
///
/// # Errors
///
/// If `activations` is not contiguous f32 on the CPU.
pub(crate) fn fake_quantize_activations(activations: &Tensor) -> Result<Tensor> {
    activations.apply_op1(Int8Activations)
}

/// Rounds a weight matrix to `{-scale, 0, scale}`, scale the mean magnitude; same shape.
///
/// # Errors
///
/// If `weight` is not contiguous f32 on the CPU.
pub(crate) fn fake_quantize_weight(weight: &Tensor) -> Result<Tensor> {
    weight.apply_op1(TernaryWeight)
}

/// A ternary weight matrix as the packed `offline` checkpoints hold it.
#[derive(Debug, Clone)]
pub(crate) struct PackedWeight {
    /// `[out / 4, in]`, row major. Byte (r, c) holds column c of the output rows `r + i * out / 4`
    /// for i = 0 to 3, in its bits 2i and 2i + 1, as the ternary value plus one.
    pub(crate) bytes: Vec<u8>,
    /// Output rows, before packing.
    pub(crate) out_features: usize,
    /// Input columns.
    pub(crate) in_features: usize,
    /// The mean magnitude; outputs are multiplied by it.
    pub(crate) scale: f32,
}

impl PackedWeight {
    /// Quantises and packs a weight `[out, in]`.
    ///
    /// # Errors
    ///
    /// If `weight` is not a matrix of f32 with rows in multiples of four.
    pub(crate) fn new(weight: &Tensor) -> Result<Self> {
        let (out_features, in_features) = weight.dims2()?;
        if !out_features.is_multiple_of(WEIGHTS_PER_BYTE) {
            bail!("packing needs output rows in multiples of 4, found {out_features}");
        }
        let values = weight.flatten_all()?.to_vec1::<f32>()?;
        let scale = mean_magnitude(&values);
        let quarter = (values.len() / WEIGHTS_PER_BYTE).max(1);
        let mut bytes = vec![0_u8; values.len() / WEIGHTS_PER_BYTE];
        for (place, rows) in values.chunks_exact(quarter).enumerate() {
            for (byte, &value) in bytes.iter_mut().zip(rows) {
                *byte |= code(ternary(value, scale)) << (2 * place);
            }
        }
        Ok(Self { bytes, out_features, in_features, scale })
    }
}

/// A ternary value plus one.
fn code(ternary: f32) -> u8 {
    u8::from(ternary > -0.5) + u8::from(ternary > 0.5)
}

/// The nearest of -1, 0 and 1 to `value / scale`.
fn ternary(value: f32, scale: f32) -> f32 {
    (value * scale.recip()).round_ties_even().clamp(-1.0, 1.0)
}

/// The mean magnitude of a weight, at least [`SMALLEST`].
fn mean_magnitude(values: &[f32]) -> f32 {
    let sum: f64 = values.iter().map(|&value| f64::from(value.abs())).sum();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a mean of f32 values is rounded to f32, and a length is exact in f64"
    )]
    let mean = (sum / values.len() as f64) as f32;
    mean.max(SMALLEST)
}

/// See [`fake_quantize_activations`].
struct Int8Activations;

impl CustomOp1 for Int8Activations {
    fn name(&self) -> &'static str {
        "int8-activations"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = contiguous(storage, layout, self.name())?;
        let width = layout.dims().last().copied().unwrap_or(1).max(1);
        let mut quantized = Vec::with_capacity(values.len());
        for row in values.chunks_exact(width) {
            let largest = row.iter().fold(SMALLEST, |largest, value| largest.max(value.abs()));
            let scale = ACTIVATION_MAX / largest;
            quantized.extend(row.iter().map(|value| {
                let rounded = (value * scale).round_ties_even();
                rounded.clamp(ACTIVATION_MIN, ACTIVATION_MAX) / scale
            }));
        }
        Ok((CpuStorage::F32(quantized), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.clone()))
    }
}

/// See [`fake_quantize_weight`].
struct TernaryWeight;

impl CustomOp1 for TernaryWeight {
    fn name(&self) -> &'static str {
        "ternary-weight"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let values = contiguous(storage, layout, self.name())?;
        let scale = mean_magnitude(values);
        let quantized = values.iter().map(|&value| ternary(value, scale) * scale);
        Ok((CpuStorage::F32(quantized.collect()), layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.clone()))
    }
}

/// The values of a contiguous f32 tensor.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout, operation: &str) -> Result<&'a [f32]> {
    let values = f32::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => bail!("{operation} needs a contiguous tensor, found {layout:?}"),
    }
}
