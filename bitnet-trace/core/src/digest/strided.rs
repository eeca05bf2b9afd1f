//! The layout of a tensor in its storage, and the changes of its dimensions that move no element.

/// Offset, dimensions and strides, counted in elements. Dimensions go from the slowest to the fastest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Strided {
    offset: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl Strided {
    /// The layout of elements in row-major order without gaps.
    pub(crate) fn contiguous(dims: &[usize]) -> Self {
        let mut strides = vec![1usize; dims.len()];
        for dim in (1..dims.len()).rev() {
            // The product may overflow if another dimension is 0: then the strides are never used.
            strides[dim - 1] = strides[dim].saturating_mul(dims[dim]);
        }
        Self { offset: 0, dims: dims.to_vec(), strides }
    }

    pub(crate) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        if self.dims.contains(&0) { 0 } else { self.dims.iter().product() }
    }

    /// The same elements without dimensions of size 1.
    pub(crate) fn squeezed(&self) -> Self {
        let kept = || (0..self.dims.len()).filter(|dim| self.dims[*dim] != 1);
        Self {
            offset: self.offset,
            dims: kept().map(|dim| self.dims[dim]).collect(),
            strides: kept().map(|dim| self.strides[dim]).collect(),
        }
    }

    /// The layout with two dimensions exchanged.
    pub(crate) fn transposed(&self, first: usize, second: usize) -> Self {
        let mut transposed = self.clone();
        transposed.dims.swap(first, second);
        transposed.strides.swap(first, second);
        transposed
    }

    /// The layout with its dimensions in another order; `None` if `order` does not name each of them once.
    pub(crate) fn permuted(&self, order: &[usize]) -> Option<Self> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..self.dims.len()).then(|| Self {
            offset: self.offset,
            dims: order.iter().map(|dim| self.dims[*dim]).collect(),
            strides: order.iter().map(|dim| self.strides[*dim]).collect(),
        })
    }

    /// The `length` indices of a dimension that begin at `start`; `None` if the dimension is too short.
    pub(crate) fn narrowed(&self, dim: usize, start: usize, length: usize) -> Option<Self> {
        if start.checked_add(length)? > *self.dims.get(dim)? {
            return None;
        }
        let mut narrowed = self.clone();
        narrowed.dims[dim] = length;
        if narrowed.len() > 0 {
            narrowed.offset += start * self.strides[dim];
        }
        Some(narrowed)
    }

    /// The same elements in the same order with other dimensions. `None` if a new dimension would have no
    /// single stride. The number of elements must stay the same.
    pub(crate) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        if self.len() == 0 {
            return Some(Self::contiguous(dims));
        }
        let mut runs = self.runs();
        let mut strides = vec![1; dims.len()];
        for (dim, to) in dims.iter().zip(&mut strides).rev().filter(|(dim, _)| **dim != 1) {
            let (size, stride) = runs.last_mut()?;
            if *size % *dim != 0 {
                return None;
            }
            *to = *stride;
            (*size, *stride) = (*size / *dim, *stride * *dim);
            if *size == 1 {
                runs.pop();
            }
        }
        runs.is_empty().then(|| Self { offset: self.offset, dims: dims.to_vec(), strides })
    }

    fn runs(&self) -> Vec<(usize, usize)> {
        runs(&self.dims, &self.strides)
    }

    /// The offsets of rows of equal length in logical order. The rows are as long as the layout allows.
    pub(crate) fn rows(&self) -> Rows {
        Rows::new(self.offset, &self.dims, &self.strides)
    }
}

/// The (size, stride) of the dimensions, slowest first. Neighbouring dimensions that lie in storage like a
/// single one are merged, and dimensions of size 1 are left out.
pub(super) fn runs(dims: &[usize], strides: &[usize]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (&size, &stride) in dims.iter().zip(strides) {
        match runs.last_mut() {
            _ if size == 1 => {}
            Some((outer, outer_stride)) if *outer_stride == size * stride => {
                (*outer, *outer_stride) = (*outer * size, stride);
            }
            _ => runs.push((size, stride)),
        }
    }
    runs
}

/// The offsets at which rows of equal length begin, in logical order.
pub(crate) struct Rows {
    /// Number of elements in a row.
    pub(crate) length: usize,
    /// Distance between two elements of a row in the storage.
    pub(crate) stride: usize,
    /// The (size, stride, position) of the dimensions outside the row, slowest first.
    outer: Vec<(usize, usize, usize)>,
    /// Offset of the next row; `None` at the end.
    next: Option<usize>,
}

impl Rows {
    /// The rows of a tensor whose elements lie inside its storage. They are as long as the layout allows.
    pub(crate) fn new(offset: usize, dims: &[usize], strides: &[usize]) -> Self {
        let empty = dims.contains(&0);
        let mut runs = if empty { Vec::new() } else { runs(dims, strides) };
        let (length, stride) = runs.pop().unwrap_or((1, 1));
        Self {
            length,
            stride,
            outer: runs.into_iter().map(|(size, stride)| (size, stride, 0)).collect(),
            next: (!empty).then_some(offset),
        }
    }
}

impl Iterator for Rows {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let start = self.next?;
        let mut offset = start;
        // The positions count like an odometer: the fastest dimension that is not at its end advances by one, and
        // the faster ones start again at 0.
        self.next = self.outer.iter_mut().rev().find_map(|(size, stride, position)| {
            *position += 1;
            offset += *stride;
            if *position < *size {
                return Some(offset);
            }
            offset -= *size * *stride;
            *position = 0;
            None
        });
        Some(start)
    }
}
