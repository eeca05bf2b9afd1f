//! What is done to a tensor before it is compared, without moving its elements.

use std::borrow::Cow;
use std::ops::ControlFlow;

use crate::digest::dtype::Dtype;

use super::number::Number;
use crate::digest::strided::{Rows, Strided};

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
    /// One row of a dimension, which then has size 1. Where the other side's last dimension is
    /// shorter, the row is trimmed to it: rows of attention scores are as long as the positions known
    /// to that step.
    Row {
        dim: usize,
        index: usize,
    },
}

/// The elements of a tensor, where they lie.
#[derive(Debug, Clone)]
pub(crate) struct View<'a> {
    pub(crate) dtype: Dtype,
    /// Elements of f64 are read as f32.
    pub(crate) narrow: bool,
    bytes: Cow<'a, [u8]>,
    strides: Strided,
}

/// Why a step cannot be taken.
pub(crate) type Refused = String;

/// Elements that are looked at together.
const BLOCK: usize = 2048;

/// The dimensions without those of size 1.
pub(crate) fn squeezed(dims: &[usize]) -> Vec<usize> {
    dims.iter().copied().filter(|dim| *dim != 1).collect()
}

impl<'a> View<'a> {
    /// Of little-endian bytes that hold every element the strides reach.
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

    /// Without dimensions of size 1.
    pub(crate) fn squeezed(self) -> Self {
        Self { strides: self.strides.squeezed(), ..self }
    }

    /// Two dimensions exchanged.
    pub(crate) fn transposed(&self, first: usize, second: usize) -> View<'_> {
        self.seen(self.strides.transposed(first, second))
    }

    /// `length` places of a dimension from `start` on; `None` if it has not so many.
    pub(crate) fn narrowed(&self, dim: usize, start: usize, length: usize) -> Option<View<'_>> {
        Some(self.seen(self.strides.narrowed(dim, start, length)?))
    }

    fn seen(&self, strides: Strided) -> View<'_> {
        View { dtype: self.dtype, narrow: self.narrow, bytes: Cow::Borrowed(&self.bytes), strides }
    }

    /// The tensor after the steps; `other` is the other side's shape as recorded, for what is trimmed.
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
            Step::Transpose(a, b) => self.strides.transposed(self.dimension(*a)?, self.dimension(*b)?),
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
            self.strides.narrowed(dim, index, 1).ok_or_else(|| format!("dimension {dim} has no place {index}"))?;
        let last = row.dims().len() - 1;
        match other.last() {
            Some(length) if dim != last && *length < row.dims()[last] => self.seen(row).trimmed(last, *length),
            _ => Ok(row),
        }
    }

    /// The first `length` of a dimension, if the rest is 0.
    fn trimmed(&self, dim: usize, length: usize) -> Result<Strided, Refused> {
        let whole = self.dims()[dim];
        let (Some(kept), Some(rest)) = (
            self.strides.narrowed(dim, 0, length),
            whole.checked_sub(length).and_then(|rest| self.narrowed(dim, length, rest)),
        ) else {
            // The other side's is longer.
            return Ok(self.strides.clone());
        };
        let found = rest.blocks(|_, elements: &[f64]| match elements.iter().find(|element| **element != 0.0) {
            Some(found) => ControlFlow::Break(*found),
            None => ControlFlow::Continue(()),
        });
        match found {
            Some(found) => Err(format!("what is cut is not 0: {found}")),
            None => Ok(kept),
        }
    }

    /// Other dimensions of the same elements. Elements that no strides reach in the new order are
    /// copied: this is the only step that may take memory of the tensor's size.
    fn reshaped(self, dims: &[usize]) -> Result<Self, Refused> {
        let elements = dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if elements != Some(self.len()) {
            return Err(format!("the shape {dims:?} has not its {} elements", self.len()));
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

    /// Calls `look` for block after block in logical order, with the index of its first element, until
    /// it breaks; what it breaks with.
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

/// The same for two views with equally many elements.
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
    /// Where the row begins of which elements are left, and how many were read.
    row: Option<usize>,
    taken: usize,
}

impl<'v> Reader<'v> {
    fn new(view: &'v View<'v>) -> Self {
        let mut rows = view.strides.rows();
        let row = rows.next();
        Self { view, rows, row, taken: 0 }
    }

    /// Fills the buffer as far as there are elements.
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
