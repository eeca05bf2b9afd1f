//! `model.safetensors` in the packed `offline` flavour: written, and read back to be scored.
//!
//! Names, dtypes and shapes follow Hugging Face transformers, `integrations/bitnet.py`: a quantised
//! projection is `*.weight` u8 `[out / 4, in]` with `*.weight_scale` f32 `[1]`, all else is f32.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};
use crate::model::{Projection, Weights};
use crate::parameters::Parameters;
use crate::quantize::PackedWeight;

/// Ternary weights in a byte.
const WEIGHTS_PER_BYTE: usize = 4;

/// A tensor as it stands in the file.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The bytes of the checkpoint file of these parameters.
///
/// # Errors
///
/// If a projection cannot be packed.
pub(crate) fn serialize(parameters: &Parameters) -> Result<Vec<u8>> {
    let mut entries = Vec::new();
    for (name, variable) in parameters.iter() {
        if Parameters::is_projection(name) {
            let packed = PackedWeight::new(variable.as_tensor())?;
            entries.push(Entry {
                name: format!("{name}_scale"),
                dtype: Dtype::F32,
                shape: vec![1],
                bytes: packed.scale.to_le_bytes().to_vec(),
            });
            entries.push(Entry {
                name: name.to_owned(),
                dtype: Dtype::U8,
                shape: vec![packed.out_features / WEIGHTS_PER_BYTE, packed.in_features],
                bytes: packed.bytes,
            });
        } else {
            let values = variable.flatten_all()?.to_vec1::<f32>()?;
            entries.push(Entry {
                name: name.to_owned(),
                dtype: Dtype::F32,
                shape: variable.dims().to_vec(),
                bytes: values.into_iter().flat_map(f32::to_le_bytes).collect(),
            });
        }
    }
    let views = entries
        .iter()
        .map(|entry| {
            let view = TensorView::new(entry.dtype, entry.shape.clone(), &entry.bytes)?;
            Ok((entry.name.as_str(), view))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    Ok(safetensors::serialize(views, Some(metadata))?)
}

/// The weights of a checkpoint file.
pub(crate) struct Checkpoint<'a> {
    tensors: SafeTensors<'a>,
}

impl<'a> Checkpoint<'a> {
    /// The weights in the bytes of a checkpoint file.
    ///
    /// # Errors
    ///
    /// If the bytes are not a safetensors file.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self> {
        Ok(Self { tensors: SafeTensors::deserialize(bytes)? })
    }

    fn view(&self, name: &str) -> Result<TensorView<'_>> {
        self.tensors.tensor(name).map_err(|_| Error::MissingWeight(name.to_owned()))
    }
}

impl Weights for Checkpoint<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor> {
        let view = self.view(name)?;
        let shape = view.shape();
        Ok(Tensor::from_raw_buffer(view.data(), DType::F32, shape, &Device::Cpu)?)
    }

    fn projection(&self, name: &str) -> Result<Projection> {
        let weight = self.view(&format!("{name}.weight"))?;
        let &[rows, in_features] = weight.shape() else {
            return Err(Error::MissingWeight(format!("{name}.weight as a matrix")));
        };
        let scale = self.tensor(&format!("{name}.weight_scale"))?;
        let scale = scale.squeeze(0)?.to_scalar::<f32>()?;
        let packed =
            PackedWeight { bytes: weight.data().to_vec(), out_features: rows * WEIGHTS_PER_BYTE, in_features, scale };
        Ok(Projection::Ternary { values: packed.unpack()?, scale: f64::from(scale) })
    }
}
