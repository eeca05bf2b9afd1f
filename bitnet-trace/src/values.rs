//! Turns captured values back into candle's tensors.

use bitnet_trace_core::digest::Dtype;
use bitnet_trace_core::trace::Values;
use candle_core::{DType, Device, Error, Result, Tensor};

/// Makes a tensor from captured values.
///
/// ```no_run
/// use bitnet_trace::{ToTensor, Trace};
/// use candle_core::{Device, Result};
///
/// fn main() -> Result<()> {
///     let trace = Trace::open("traces").expect("a trace directory");
///     for record in trace.records() {
///         if let Some(values) = trace.values(record).expect("readable") {
///             println!("{} {}", record.name, values.to_tensor(&Device::Cpu)?);
///         }
///     }
///     Ok(())
/// }
/// ```
pub trait ToTensor {
    /// A tensor of the same type, shape and elements on a device.
    ///
    /// # Errors
    ///
    /// If candle has no such type (`F8E5M2`), or the device has no memory for it.
    fn to_tensor(&self, device: &Device) -> Result<Tensor>;
}

impl ToTensor for Values {
    fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        let dtype = match self.dtype {
            Dtype::U8 => DType::U8,
            Dtype::U32 => DType::U32,
            Dtype::I16 => DType::I16,
            Dtype::I32 => DType::I32,
            Dtype::I64 => DType::I64,
            Dtype::BF16 => DType::BF16,
            Dtype::F16 => DType::F16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F8E4M3 => DType::F8E4M3,
            other => return Err(Error::Msg(format!("candle has no tensors of type {}", other.name()))),
        };
        Tensor::from_raw_buffer(&self.bytes, dtype, &self.shape, device)
    }
}
