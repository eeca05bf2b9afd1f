//! Where the elements of a tensor lie: every change of a tensor's dimensions that moves no element.

/// Offset, dimensions and strides, counted in elements. Dimensions go from the slowest to the fastest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Strided {
    offset: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl Strided {
    /// Of elements in row-major order without gaps.
    pub(crate) fn contiguous(dims: &[usize]) -> Self {
        let mut strides = vec![1usize; dims.len()];
        for dim in (1..dims.len()).rev() {
            // A tensor without elements may have any other dimensions.
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

    /// Two dimensions exchanged.
    pub(crate) fn transposed(&self, first: usize, second: usize) -> Self {
        let mut transposed = self.clone();
        transposed.dims.swap(first, second);
        transposed.strides.swap(first, second);
        transposed
    }

    /// The dimensions in another order; `None` if it does not name each of them once.
    pub(crate) fn permuted(&self, order: &[usize]) -> Option<Self> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        sorted.into_iter().eq(0..self.dims.len()).then(|| Self {
            offset: self.offset,
            dims: order.iter().map(|dim| self.dims[*dim]).collect(),
            strides: order.iter().map(|dim| self.strides[*dim]).collect(),
        })
    }

    /// `length` places of a dimension from `start` on; `None` if it has not so many.
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

    /// Other dimensions of the same elements in the same order. `None` where a new dimension would
    /// have no single stride; the number of elements has to be the same.
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

    /// Rows of equal length in logical order, as long as they can be.
    pub(crate) fn rows(&self) -> Rows {
        Rows::new(self.offset, &self.dims, &self.strides)
    }
}

/// (size, stride) of the dimensions, slowest first: neighbours that lie in storage like one are
/// taken as one, and those of size 1 are left out.
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
    /// Elements in a row, and the distance between two of them.
    pub(crate) length: usize,
    pub(crate) stride: usize,
    /// (size, stride, position) of the dimensions outside the row, slowest first.
    outer: Vec<(usize, usize, usize)>,
    next: Option<usize>,
}

impl Rows {
    /// Of a tensor whose elements lie inside its storage; the rows are as long as they can be.
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
        // An odometer: the fastest dimension that has not come round moves on.
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
