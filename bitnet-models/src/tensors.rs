//! Tensors as slices and back: what candle's own operations would do in several passes over memory is one loop here.

use candle_core::{CpuStorage, Device, Storage, Tensor};
use rayon::prelude::*;

use crate::error::Result;

/// Elements from which on the rows of a tensor are computed on several threads.
const PARALLEL: usize = 1 << 14;

/// Calls `f` with the elements of a tensor of F32 in row-major order, which are copied only if they lie in another order.
///
/// # Errors
///
/// If the tensor is not of F32 on the CPU.
pub(crate) fn with_values<R>(x: &Tensor, f: impl FnOnce(&[f32]) -> R) -> Result<R> {
    let x = x.contiguous()?;
    let (storage, layout) = x.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => Ok(f(&values[start..end])),
        _ => Err(error(format!("expected a tensor of F32 on the CPU, found {:?} on {:?}", x.dtype(), x.device()))),
    }
}

/// A tensor of these elements in row-major order.
///
/// # Errors
///
/// If the number of elements is not that of the shape.
pub(crate) fn tensor(values: Vec<f32>, shape: impl Into<candle_core::Shape>) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, shape.into(), &Device::Cpu)?)
}

/// Computes each row of `to` `[.., width]` from the row of `from` with the same index, on several threads if there is
/// much to do.
pub(crate) fn map_rows(from: &[f32], to: &mut [f32], width: usize, f: impl Fn(&[f32], &mut [f32]) + Sync) {
    let rows = to.len().checked_div(width).unwrap_or(0);
    let from_width = from.len().checked_div(rows).unwrap_or(0);
    if rows > 1 && to.len() >= PARALLEL {
        to.par_chunks_exact_mut(width).zip(from.par_chunks_exact(from_width)).for_each(|(to, from)| f(from, to));
    } else {
        for (row, to) in to.chunks_exact_mut(width.max(1)).enumerate() {
            f(&from[row * from_width..][..from_width], to);
        }
    }
}

/// Applies `f` to the elements of two tensors of one shape.
///
/// # Errors
///
/// If they are not of F32 on the CPU, or their shapes differ.
pub(crate) fn zip(a: &Tensor, b: &Tensor, f: impl Fn(f32, f32) -> f32 + Sync) -> Result<Tensor> {
    if a.dims() != b.dims() {
        return Err(error(format!("expected tensors of one shape, found {:?} and {:?}", a.dims(), b.dims())));
    }
    let values = with_values(a, |a| {
        with_values(b, |b| {
            let mut to = vec![0.0; a.len()];
            let each = |to: &mut [f32], a: &[f32], b: &[f32]| {
                for (to, (a, b)) in to.iter_mut().zip(a.iter().zip(b)) {
                    *to = f(*a, *b);
                }
            };
            if a.len() > PARALLEL {
                let (a, b) = (a.par_chunks(PARALLEL), b.par_chunks(PARALLEL));
                to.par_chunks_mut(PARALLEL).zip(a).zip(b).for_each(|((to, a), b)| each(to, a, b));
            } else {
                each(&mut to, a, b);
            }
            to
        })
    })??;
    tensor(values, a.shape())
}

pub(crate) fn error(message: String) -> crate::Error {
    crate::Error::Candle(candle_core::Error::Msg(message))
}

/// Checks that the last dimension of `x` is `width`, and returns the shape with `to` in its place.
///
/// # Errors
///
/// If it is not.
pub(crate) fn with_last(x: &Tensor, width: usize, to: usize) -> Result<Vec<usize>> {
    let mut shape = x.dims().to_vec();
    match shape.last_mut() {
        Some(last) if *last == width => *last = to,
        _ => return Err(error(format!("expected {width} as the last dimension, found {shape:?}"))),
    }
    Ok(shape)
}
