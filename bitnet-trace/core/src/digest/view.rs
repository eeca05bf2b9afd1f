//! Views of tensors in the memory of this process, laid out as their library stores them: borrowed, never
//! copied.

use std::fmt;
use std::ops::Range;

use super::dtype::Dtype;
use super::strided::{Rows, runs};
use crate::error::Error;

/// The storage of a tensor: a slice of elements of one type.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Elements<'a> {
    /// Unsigned 8-bit integers.
    U8(&'a [u8]),
    /// Unsigned 32-bit integers.
    U32(&'a [u32]),
    /// Signed 16-bit integers.
    I16(&'a [i16]),
    /// Signed 32-bit integers.
    I32(&'a [i32]),
    /// Signed 64-bit integers.
    I64(&'a [i64]),
    /// The bits of bfloat16.
    BF16(&'a [u16]),
    /// The bits of IEEE half precision.
    F16(&'a [u16]),
    /// IEEE single precision.
    F32(&'a [f32]),
    /// IEEE double precision.
    F64(&'a [f64]),
    /// The bits of 8-bit floats with 4 exponent bits, see [`Dtype::F8E4M3`].
    F8E4M3(&'a [u8]),
    /// The bits of 8-bit floats with 5 exponent bits, see [`Dtype::F8E5M2`].
    F8E5M2(&'a [u8]),
}

impl Elements<'_> {
    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        match self {
            Self::U8(_) => Dtype::U8,
            Self::U32(_) => Dtype::U32,
            Self::I16(_) => Dtype::I16,
            Self::I32(_) => Dtype::I32,
            Self::I64(_) => Dtype::I64,
            Self::BF16(_) => Dtype::BF16,
            Self::F16(_) => Dtype::F16,
            Self::F32(_) => Dtype::F32,
            Self::F64(_) => Dtype::F64,
            Self::F8E4M3(_) => Dtype::F8E4M3,
            Self::F8E5M2(_) => Dtype::F8E5M2,
        }
    }

    /// The number of elements in the storage.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::U8(data) | Self::F8E4M3(data) | Self::F8E5M2(data) => data.len(),
            Self::I16(data) => data.len(),
            Self::BF16(data) | Self::F16(data) => data.len(),
            Self::U32(data) => data.len(),
            Self::I32(data) => data.len(),
            Self::F32(data) => data.len(),
            Self::I64(data) => data.len(),
            Self::F64(data) => data.len(),
        }
    }

    /// Whether the storage has no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A strided tensor: its storage, and offset, shape and strides counted in elements.
///
/// The constructors check that every element of the view lies inside the storage.
///
/// ```
/// use bitnet_trace_core::digest::{Elements, TensorView, Wanted, digest};
///
/// // A 2x3 matrix, and its transpose without a copy.
/// let data = [1f32, 2.0, 3.0, 4.0, 5.0, 6.0];
/// let matrix = TensorView::contiguous(Elements::F32(&data), &[2, 3])?;
/// let transpose = TensorView::strided(Elements::F32(&data), 0, &[3, 2], &[1, 3])?;
///
/// let [a, b] = [matrix, transpose].map(|view| digest(&view, Wanted::default()));
/// assert_ne!(a.blake3, b.blake3);
/// assert_eq!(a.statistics.rms(), b.statistics.rms());
/// # Ok::<(), bitnet_trace_core::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct TensorView<'a> {
    elements: Elements<'a>,
    offset: usize,
    shape: &'a [usize],
    /// `None` if the elements lie in row-major order without gaps.
    strides: Option<&'a [usize]>,
    count: usize,
}

impl<'a> TensorView<'a> {
    /// A tensor whose elements lie in row-major order without gaps from the start of the storage.
    ///
    /// # Errors
    ///
    /// [`Error::View`] if the storage has fewer elements than the shape.
    pub fn contiguous(elements: Elements<'a>, shape: &'a [usize]) -> Result<Self, Error> {
        Self::new(elements, 0, shape, None)
    }

    /// A tensor that starts at index `offset` of the storage. A dimension's stride is the distance between two
    /// neighbours in it, in elements of the storage (0 for a broadcast dimension).
    ///
    /// # Errors
    ///
    /// [`Error::View`] if shape and strides have different lengths, or an element lies outside the storage.
    pub fn strided(
        elements: Elements<'a>,
        offset: usize,
        shape: &'a [usize],
        strides: &'a [usize],
    ) -> Result<Self, Error> {
        Self::new(elements, offset, shape, Some(strides))
    }

    fn new(
        elements: Elements<'a>,
        offset: usize,
        shape: &'a [usize],
        strides: Option<&'a [usize]>,
    ) -> Result<Self, Error> {
        let held = elements.len();
        let outside = || Error::View { shape: shape.to_vec(), strides: strides.map(<[_]>::to_vec), offset, held };
        if strides.is_some_and(|strides| strides.len() != shape.len()) {
            return Err(outside());
        }
        let empty = shape.contains(&0);
        let count = if empty { 0 } else { product(shape).ok_or_else(outside)? };
        // A broadcast view may have more elements than its storage, but no more than their bytes can be counted.
        if count > isize::MAX.unsigned_abs() / size_of::<f64>() {
            return Err(outside());
        }
        let end = match strides {
            _ if empty => Some(0),
            None => offset.checked_add(count),
            Some(strides) => last(offset, shape, strides).and_then(|last| last.checked_add(1)),
        };
        if end.is_none_or(|end| end > held) {
            return Err(outside());
        }
        // Only a row-major layout may be treated as contiguous: any other would be read beyond its last element.
        // Strides that lead outside the storage were refused before: their products may overflow.
        let strides = strides.filter(|strides| !is_row_major(shape, strides));
        Ok(Self { elements, offset, shape, strides, count })
    }

    /// The whole storage; the tensor may be only a part of it.
    #[must_use]
    pub fn elements(&self) -> Elements<'a> {
        self.elements
    }

    /// The type of the elements.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.elements.dtype()
    }

    /// Dimensions, slowest first.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The number of elements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The range of the storage that holds the elements; `None` if they do not lie in row-major order without
    /// gaps.
    pub(super) fn range(&self) -> Option<Range<usize>> {
        let start = if self.count == 0 { 0 } else { self.offset };
        self.strides.is_none().then_some(start..start + self.count)
    }

    /// The offsets at which rows of equal length begin, in logical order.
    pub(super) fn rows(&self) -> Rows {
        match self.strides {
            Some(strides) => Rows::new(self.offset, self.shape, strides),
            None => Rows::new(self.offset, &[self.count], &[1]),
        }
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorView")
            .field("dtype", &self.dtype())
            .field("offset", &self.offset)
            .field("shape", &self.shape)
            .field("strides", &self.strides)
            .finish_non_exhaustive()
    }
}

fn product(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))
}

/// The index of the last element in the storage, `None` on overflow. No dimension may be 0.
fn last(offset: usize, shape: &[usize], strides: &[usize]) -> Option<usize> {
    shape
        .iter()
        .zip(strides)
        .try_fold(offset, |place, (dim, stride)| place.checked_add((dim - 1).checked_mul(*stride)?))
}

/// Whether the elements lie in row-major order without gaps.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let runs = runs(shape, strides);
    matches!(runs[..], [] | [(_, 1)])
}

/// A tensor of any library that can be shown as a view in the memory of this process.
///
/// [`TensorView`] implements it. A library whose tensors lie elsewhere (on an accelerator, behind a lock)
/// implements it so that a tensor is copied or locked only after the filters decided to record it.
pub trait TensorSource {
    /// Calls `read` once with the tensor's view.
    ///
    /// # Errors
    ///
    /// The error of `read`, or an error that says why the tensor cannot be shown.
    fn with_view(&self, read: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error>;

    /// The device that holds the tensor, such as `cuda:0`; `None` for the memory of the host.
    fn device(&self) -> Option<String> {
        None
    }
}

impl TensorSource for TensorView<'_> {
    fn with_view(&self, read: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error> {
        read(self)
    }
}

#[cfg(test)]
mod tests {
    use super::{Elements, TensorView};

    #[test]
    fn views_that_reach_outside_the_storage_are_refused() {
        let data = [0f32; 6];
        let elements = Elements::F32(&data);
        let message = |view: Result<TensorView<'_>, crate::Error>| view.expect_err("refused").to_string();
        for (offset, shape, strides) in [
            (0, &[7usize][..], &[1usize][..]),
            (1, &[6], &[1]),
            (0, &[2, 3], &[4, 1]),
            (0, &[2], &[usize::MAX]),
            (0, &[2, 2], &[1, usize::MAX]),
            (usize::MAX, &[1], &[1]),
            (0, &[usize::MAX, 2], &[0, 0]),
            (0, &[usize::MAX / 4], &[0]),
            (0, &[2, 3], &[3]),
        ] {
            let said = message(TensorView::strided(elements, offset, shape, strides));
            assert!(said.contains(&format!("{shape:?}")) && said.contains("holds 6 elements"), "{said}");
        }
        assert!(message(TensorView::contiguous(elements, &[2, 4])).contains("holds 6 elements"));
    }

    #[test]
    fn views_that_are_row_major_lie_in_one_range() {
        let data = [0f32; 24];
        let range = |offset, shape: &[usize], strides: &[usize]| {
            TensorView::strided(Elements::F32(&data), offset, shape, strides).expect("inside").range()
        };
        assert_eq!(range(2, &[2, 3], &[3, 1]), Some(2..8));
        assert_eq!(range(2, &[2, 1, 3], &[3, 99, 1]), Some(2..8));
        assert_eq!(range(2, &[1], &[7]), Some(2..3));
        assert_eq!(range(2, &[], &[]), Some(2..3));
        assert_eq!(range(99, &[2, 0], &[5, 7]), Some(0..0));
        assert_eq!(range(0, &[3, 2], &[1, 3]), None);
        assert_eq!(range(0, &[2, 2], &[0, 1]), None);
    }
}
