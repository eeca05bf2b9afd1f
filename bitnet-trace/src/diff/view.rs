//! What is done to a tensor before it is compared.

use candle_core::{DType, Device, Result, Tensor};

/// One step of making a tensor comparable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Reshape(Vec<usize>),
    Transpose(i64, i64),
    Permute(Vec<usize>),
    Slice {
        dim: i64,
        start: usize,
        end: usize,
    },
    /// To the other side's length in this dimension; what is cut has to be 0.
    Trim(i64),
    /// One row of a dimension.
    Row {
        dim: usize,
        index: usize,
    },
}

/// The elements of a tensor as f32, with its dimensions: those of size 1 left out.
#[derive(Debug, Clone)]
pub(crate) struct Elements {
    pub(crate) dims: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// What there is to say against a view.
pub(crate) type Refused = String;

/// The dimensions without those of size 1.
pub(crate) fn squeezed(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|dim| *dim != 1).collect()
}

/// The tensor after the steps; `other` is the other side's shape as recorded, for what is trimmed.
pub(crate) fn view(tensor: &Tensor, steps: &[Step], other: &[usize]) -> std::result::Result<Elements, Refused> {
    let mut tensor = tensor.to_device(&Device::Cpu).map_err(|error| error.to_string())?;
    for step in steps {
        tensor = apply(&tensor, step, other).map_err(|error| format!("{step:?} of {:?}: {error}", tensor.dims()))?;
    }
    elements(&tensor).map_err(|error| error.to_string())
}

fn elements(tensor: &Tensor) -> Result<Elements> {
    let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    Ok(Elements { dims: squeezed(tensor.dims()), values })
}

fn apply(tensor: &Tensor, step: &Step, other: &[usize]) -> Result<Tensor> {
    match step {
        Step::Reshape(dims) => tensor.reshape(dims.as_slice()),
        Step::Transpose(a, b) => tensor.transpose(dimension(tensor, *a)?, dimension(tensor, *b)?)?.contiguous(),
        Step::Permute(dims) => tensor.permute(dims.as_slice())?.contiguous(),
        Step::Slice { dim, start, end } => {
            let length = end.checked_sub(*start).ok_or_else(|| candle_core::Error::msg("it ends before it begins"))?;
            tensor.narrow(dimension(tensor, *dim)?, *start, length)
        }
        Step::Trim(dim) => {
            let dim = dimension(tensor, *dim)?;
            // Counted from the end: the other side may lack leading dimensions of size 1.
            let from_end = tensor.rank() - dim;
            let length = other.len().checked_sub(from_end).map_or(tensor.dim(dim)?, |at| other[at]);
            trim(tensor, dim, length)
        }
        Step::Row { dim, index } => {
            let dim = *dim;
            let row = tensor.narrow(dim, *index, 1)?;
            // Rows of attention scores are as long as the positions known to that step.
            let last = row.rank() - 1;
            match other.last() {
                Some(length) if dim != last && *length < row.dim(last)? => trim(&row, last, *length),
                _ => Ok(row),
            }
        }
    }
}

/// The first `length` of a dimension, if the rest is 0.
fn trim(tensor: &Tensor, dim: usize, length: usize) -> Result<Tensor> {
    let whole = tensor.dim(dim)?;
    if length >= whole {
        return Ok(tensor.clone());
    }
    let rest: Vec<f32> = tensor.narrow(dim, length, whole - length)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    if let Some(found) = rest.into_iter().find(|value| *value != 0.0) {
        return Err(candle_core::Error::msg(format!("what is cut is not 0: {found}")));
    }
    tensor.narrow(dim, 0, length)
}

fn dimension(tensor: &Tensor, dim: i64) -> Result<usize> {
    let rank = i64::try_from(tensor.rank()).unwrap_or(i64::MAX);
    let from_front = if dim < 0 { dim + rank } else { dim };
    usize::try_from(from_front)
        .ok()
        .filter(|dim| *dim < tensor.rank())
        .ok_or_else(|| candle_core::Error::msg(format!("there is no dimension {dim}")))
}
