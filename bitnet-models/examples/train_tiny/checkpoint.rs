//! `model.safetensors` in the packed `offline` flavour.
//!
//! Names, dtypes and shapes follow Hugging Face transformers, `integrations/bitnet.py`: a quantised
//! projection is `*.weight` u8 `[out / 4, in]` with `*.weight_scale` f32 `[1]`, all else is f32.

use std::collections::HashMap;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::error::Result;
use crate::parameters::Parameters;
use crate::quantize::{PackedWeight, WEIGHTS_PER_BYTE};

/// A tensor as it is stored in the file.
struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// Returns the bytes of the checkpoint file of these parameters.
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
