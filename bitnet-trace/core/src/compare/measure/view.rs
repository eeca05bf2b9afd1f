//! Views of a captured tensor: the steps that make it comparable, without moving its elements.

use std::borrow::Cow;
use std::ops::ControlFlow;

use crate::digest::dtype::Dtype;

use super::number::Number;
use crate::digest::strided::{Rows, Strided};

/// One step that makes a tensor comparable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Reshape(Vec<usize>),
    Transpose(i64, i64),
    Permute(Vec<usize>),
    /// Makes one dimension of these two and all between them.
    Flatten(i64, i64),
    Slice {
        dim: i64,
        start: usize,
        end: usize,
    },
    /// Cuts this dimension to the length of the other side. The elements that are cut have to be 0.
    Trim(i64),
    /// Takes one row of a dimension, which then has size 1. If the last dimension of the other side is shorter, the row
    /// is trimmed to it: a row of attention scores is as long as the number of positions that its step knows.
    Row {
        dim: usize,
        index: usize,
    },
}

/// A view of the elements of a tensor.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) dtype: Dtype,
    /// Whether elements of f64 are rounded to f32.
    pub(crate) narrow: bool,
    bytes: Cow<'a, [u8]>,
    strides: Strided,
}

/// The reason why a step cannot be applied.
pub(crate) type Refused = String;

/// The most leading dimensions of size 1 that a tensor may lack. Tensors of models have up to four dimensions.
const MOST_MISSING: usize = 3;

/// The number of elements in a block.
const BLOCK: usize = 2048;

/// The shape without dimensions of size 1.
pub(crate) fn squeezed(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|dim| *dim != 1).collect()
}

impl<'a> View<'a> {
    /// A view of little-endian bytes. They must hold every element that the strides reach.
    pub(crate) fn new(dtype: Dtype, bytes: Cow<'a, [u8]>, strides: Strided) -> Self {
        Self { dtype, narrow: false, bytes, strides }
    }

    pub(crate) fn dims(&self) -> &[usize] {
        self.strides.dims()
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        self.strides.len()
    }

    /// The view without dimensions of size 1.
    pub(crate) fn squeezed(self) -> Self {
        Self { strides: self.strides.squeezed(), ..self }
    }

    /// The view with two dimensions exchanged.
    pub(crate) fn transposed(&self, first: usize, second: usize) -> View<'_> {
        self.seen(self.strides.transposed(first, second))
    }

    /// `length` indices of a dimension from `start` on; `None` if the dimension is shorter.
    pub(crate) fn narrowed(&self, dim: usize, start: usize, length: usize) -> Option<View<'_>> {
        Some(self.seen(self.strides.narrowed(dim, start, length)?))
    }

    fn seen(&self, strides: Strided) -> View<'_> {
        View { dtype: self.dtype, narrow: self.narrow, bytes: Cow::Borrowed(&self.bytes), strides }
    }

    /// The view after the steps. `other` is the shape of the other side as recorded, which trimming needs.
    pub(crate) fn after(mut self, steps: &[Step], other: &[usize]) -> Result<Self, Refused> {
        for step in steps {
            let dims = self.dims().to_vec();
            self = self.apply(step, other).map_err(|reason| format!("{step:?} of {dims:?}: {reason}"))?;
        }
        Ok(self)
    }

    fn apply(self, step: &Step, other: &[usize]) -> Result<Self, Refused> {
        let strides = match step {
            Step::Reshape(dims) => return self.reshaped(dims),
            Step::Flatten(first, last) => {
                let (first, last) = (self.dimension(*first)?, self.dimension(*last)?);
                if first > last {
                    return Err(format!("dimension {first} comes after dimension {last}"));
                }
                let dims = self.dims();
                let one = dims[first..=last].iter().fold(1, |product: usize, dim| product.saturating_mul(*dim));
                let dims = [&dims[..first], &[one], &dims[last + 1..]].concat();
                return self.reshaped(&dims);
            }
            Step::Transpose(a, b) => {
                // Programs that leave out leading dimensions of size 1 give one token fewer dimensions than several.
                let rank = [a, b].map(|dim| usize::try_from(dim.unsigned_abs()).unwrap_or(usize::MAX));
                let missing = (self.dims().len()..rank[0].max(rank[1])).len();
                if a.max(b) < &0 && (1..=MOST_MISSING).contains(&missing) {
                    let dims = [&vec![1; missing][..], self.dims()].concat();
                    return self.reshaped(&dims)?.apply(step, other);
                }
                self.strides.transposed(self.dimension(*a)?, self.dimension(*b)?)
            }
            Step::Permute(order) => self
                .strides
                .permuted(order)
                .ok_or_else(|| format!("expected each of {} dimensions once", self.dims().len()))?,
            Step::Slice { dim, start, end } => {
                let length = end.checked_sub(*start).ok_or("it ends before it begins")?;
                let dim = self.dimension(*dim)?;
                self.strides
                    .narrowed(dim, *start, length)
                    .ok_or_else(|| format!("dimension {dim} ends at {}", self.dims()[dim]))?
            }
            Step::Trim(dim) => {
                let dim = self.dimension(*dim)?;
                // Counted from the end: the other side may lack leading dimensions of size 1.
                let from_end = self.dims().len() - dim;
                let length = other.len().checked_sub(from_end).map_or(self.dims()[dim], |at| other[at]);
                self.trimmed(dim, length)?
            }
            Step::Row { dim, index } => self.row(*dim, *index, other)?,
        };
        Ok(Self { strides, ..self })
    }

    fn row(&self, dim: usize, index: usize, other: &[usize]) -> Result<Strided, Refused> {
        let row =
            self.strides.narrowed(dim, index, 1).ok_or_else(|| format!("dimension {dim} has no index {index}"))?;
        let last = row.dims().len() - 1;
        match other.last() {
            Some(length) if dim != last && *length < row.dims()[last] => self.seen(row).trimmed(last, *length),
            _ => Ok(row),
        }
    }

    /// The first `length` indices of a dimension. The other elements have to be 0.
    fn trimmed(&self, dim: usize, length: usize) -> Result<Strided, Refused> {
        let whole = self.dims()[dim];
        let (Some(kept), Some(rest)) = (
            self.strides.narrowed(dim, 0, length),
            whole.checked_sub(length).and_then(|rest| self.narrowed(dim, length, rest)),
        ) else {
            // The dimension of the other side is longer: nothing is cut.
            return Ok(self.strides.clone());
        };
        let found = rest.blocks(|_, elements: &[f64]| match elements.iter().find(|element| **element != 0.0) {
            Some(found) => ControlFlow::Break(*found),
            None => ControlFlow::Continue(()),
        });
        match found {
            Some(found) => Err(format!("an element that is cut is not 0: {found}")),
            None => Ok(kept),
        }
    }

    /// The same elements with another shape. If no strides describe the new shape, the elements are copied: this is the
    /// only step that may take as much memory as the tensor.
    fn reshaped(self, dims: &[usize]) -> Result<Self, Refused> {
        let elements = dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if elements != Some(self.len()) {
            return Err(format!("the shape {dims:?} does not have its {} elements", self.len()));
        }
        if let Some(strides) = self.strides.reshaped(dims) {
            return Ok(Self { strides, ..self });
        }
        let size = self.dtype.size();
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(self.len() * size).map_err(|error| error.to_string())?;
        let rows = self.strides.rows();
        let (length, stride) = (rows.length, rows.stride);
        for start in rows {
            for element in (0..length).map(|place| start + place * stride) {
                bytes.extend_from_slice(&self.bytes[element * size..][..size]);
            }
        }
        Ok(Self { bytes: Cow::Owned(bytes), strides: Strided::contiguous(dims), ..self })
    }

    fn dimension(&self, dim: i64) -> Result<usize, Refused> {
        let rank = self.dims().len();
        let from_front = if dim < 0 { dim.saturating_add_unsigned(rank as u64) } else { dim };
        usize::try_from(from_front).ok().filter(|dim| *dim < rank).ok_or_else(|| format!("there is no dimension {dim}"))
    }

    /// Calls `look` for block after block in logical order, with the index of the first element, until it breaks.
    /// Returns what it breaks with.
    pub(crate) fn blocks<T: Number, B>(&self, mut look: impl FnMut(usize, &[T]) -> ControlFlow<B>) -> Option<B> {
        let mut reader = Reader::new(self);
        let mut buffer = [T::default(); BLOCK];
        let mut start = 0;
        while start < self.len() {
            let count = reader.read(&mut buffer);
            if let ControlFlow::Break(found) = look(start, &buffer[..count]) {
                return Some(found);
            }
            start += count;
        }
        None
    }
}

/// The same as [`View::blocks`], for two views with the same number of elements.
pub(crate) fn blocks_of_both<T: Number, B>(
    [a, b]: [&View<'_>; 2],
    mut look: impl FnMut(usize, &[T], &[T]) -> ControlFlow<B>,
) -> Option<B> {
    let mut other = Reader::new(b);
    let mut buffer = [T::default(); BLOCK];
    a.blocks(|start, elements: &[T]| {
        let count = other.read(&mut buffer[..elements.len()]);
        look(start, &elements[..count], &buffer[..count])
    })
}

/// Reads a view's elements in logical order.
struct Reader<'v> {
    view: &'v View<'v>,
    rows: Rows,
    /// The start of the current row, and how many of its elements were read.
    row: Option<usize>,
    taken: usize,
}

impl<'v> Reader<'v> {
    fn new(view: &'v View<'v>) -> Self {
        let mut rows = view.strides.rows();
        let row = rows.next();
        Self { view, rows, row, taken: 0 }
    }

    /// Fills the buffer, or a part of it if there are fewer elements. Returns the number of elements.
    fn read<T: Number>(&mut self, to: &mut [T]) -> usize {
        let View { dtype, narrow, bytes, .. } = self.view;
        let mut filled = 0;
        while filled < to.len()
            && let Some(row) = self.row
        {
            let fits = (self.rows.length - self.taken).min(to.len() - filled);
            let from = row + self.taken * self.rows.stride;
            T::read(*dtype, *narrow, bytes, from, self.rows.stride, &mut to[filled..filled + fits]);
            filled += fits;
            self.taken += fits;
            if self.taken == self.rows.length {
                self.row = self.rows.next();
                self.taken = 0;
            }
        }
        filled
    }
}
