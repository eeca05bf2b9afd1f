//! A safetensors file in memory; its header is checked against its length.

use std::borrow::Cow;

use ::safetensors::tensor::{Metadata, TensorInfo};
use ::safetensors::{Dtype, SafeTensors};

use crate::error::{Error, Result};

/// Named tensors in memory.
#[derive(Debug)]
pub(super) struct TensorFile {
    /// The file's name, for messages.
    name: String,
    bytes: Cow<'static, [u8]>,
    metadata: Metadata,
    /// Where the tensors' data begins.
    data: usize,
}

/// The number of bytes before the header: they hold its length as a u64.
const PREFIX: usize = 8;

impl TensorFile {
    pub(super) fn new(name: String, bytes: Cow<'static, [u8]>) -> Result<Self> {
        let checked = SafeTensors::deserialize(&bytes).and_then(|_| SafeTensors::read_metadata(&bytes));
        match checked {
            Ok((header, metadata)) => Ok(Self { name, data: PREFIX + header, bytes, metadata }),
            Err(error) => {
                let reason = format!("not a whole safetensors file ({} bytes): {error}", bytes.len());
                Err(Error::Format { file: name, reason })
            }
        }
    }

    #[cfg(feature = "trace")]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the little-endian bytes of a tensor that must have this type and shape.
    pub(super) fn tensor(&self, tensor: &str, dtype: Dtype, shape: &[usize]) -> Result<&[u8]> {
        let expected = describe(dtype, shape);
        let Some(info) = self.metadata.info(tensor) else {
            return Err(self.error(tensor, expected, "no such tensor".to_owned()));
        };
        if (info.dtype, info.shape.as_slice()) != (dtype, shape) {
            return Err(self.error(tensor, expected, describe(info.dtype, &info.shape)));
        }
        let TensorInfo { data_offsets: (start, end), .. } = info;
        let bytes = self.bytes.get(self.data + start..self.data + end);
        bytes.ok_or_else(|| self.error(tensor, expected, "data outside the file".to_owned()))
    }

    pub(super) fn error(&self, tensor: &str, expected: String, found: String) -> Error {
        Error::Tensor { file: self.name.clone(), tensor: tensor.to_owned(), expected, found }
    }
}

fn describe(dtype: Dtype, shape: &[usize]) -> String {
    format!("{dtype:?} {shape:?}")
}
