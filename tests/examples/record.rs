//! Records the tensors that standard input describes in JSON, as `tests/parity/equal.py` writes it.

use std::error::Error;

use bitnet_trace::{TraceContext, dump_trace_with_context, tap};
use candle_core::{DType, Device, Shape, Tensor};
use serde::Deserialize;
use serde_json::Value;

/// A tensor: the bytes of a dense one, the views that are taken of it, and where it is recorded.
#[derive(Deserialize)]
struct Case {
    dtype: String,
    shape: Vec<usize>,
    /// In hex.
    bytes: String,
    stage: String,
    /// Else the name is made of step, layer and stage.
    name: Option<String>,
    seq: Option<usize>,
    layer: Option<usize>,
    views: Vec<Vec<Value>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let cases: Vec<Case> = serde_json::from_reader(std::io::stdin().lock())?;
    for case in &cases {
        let tensor = case.tensor()?;
        if let Some(name) = &case.name {
            dump_trace_with_context(name, &tensor, case.seq, case.layer, Some(&case.stage))?;
        } else {
            let mut context = TraceContext::default();
            (context.seq, context.layer) = (case.seq, case.layer);
            context.in_scope(|| tap(&case.stage, &tensor));
        }
    }
    Ok(())
}

impl Case {
    fn tensor(&self) -> Result<Tensor, Box<dyn Error>> {
        let dtype: DType = self.dtype.to_lowercase().parse()?;
        let digits = self.bytes.as_bytes().chunks(2);
        let bytes = digits.map(|digits| Ok(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?));
        let bytes = bytes.collect::<Result<Vec<u8>, Box<dyn Error>>>()?;
        let mut tensor = Tensor::from_raw_buffer(&bytes, dtype, &self.shape, &Device::Cpu)?;
        for view in &self.views {
            let number = |at: usize| -> Result<usize, Box<dyn Error>> {
                let number = view.get(at).and_then(Value::as_u64).ok_or("a view lacks a number")?;
                Ok(usize::try_from(number)?)
            };
            tensor = match view.first().and_then(Value::as_str) {
                Some("transpose") => tensor.transpose(number(1)?, number(2)?)?,
                Some("narrow") => tensor.narrow(number(1)?, number(2)?, number(3)?)?,
                Some("expand") => {
                    let shape: Vec<usize> = (1..view.len()).map(number).collect::<Result<_, _>>()?;
                    tensor.broadcast_as(Shape::from(shape))?
                }
                other => return Err(format!("unknown view {other:?}").into()),
            };
        }
        Ok(tensor)
    }
}
