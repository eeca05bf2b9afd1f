//! A tensor in the memory of a Python object becomes a view.
//!
//! `unsafe` is needed here because Python's libraries show their memory as addresses.
#![allow(unsafe_code)]

use std::slice;

use bitnet_trace_core::Error;
use bitnet_trace_core::digest::{Dtype, Elements, TensorSource, TensorView};

/// A tensor as a library describes it: an address, and shape and strides in elements.
pub(crate) struct Memory<'a> {
    address: usize,
    dtype: Dtype,
    shape: &'a [usize],
    strides: &'a [usize],
    /// Elements from the first to the last, both included.
    held: usize,
    device: Option<&'a str>,
}

impl<'a> Memory<'a> {
    /// `room` is the number of bytes that lie behind the address, if the library says it.
    pub(crate) fn new(
        address: usize,
        dtype: Dtype,
        shape: &'a [usize],
        strides: &'a [usize],
        room: Option<usize>,
        device: Option<&'a str>,
    ) -> Result<Self, Error> {
        let held = held(shape, strides).filter(|held| *held <= isize::MAX.unsigned_abs() / dtype.size());
        let held =
            held.filter(|held| room.is_none_or(|room| *held * dtype.size() <= room) && (*held == 0 || address != 0));
        let held = held.ok_or_else(|| Error::View {
            shape: shape.to_vec(),
            strides: Some(strides.to_vec()),
            offset: 0,
            held: room.unwrap_or(0) / dtype.size(),
        })?;
        Ok(Self { address, dtype, shape, strides, held, device })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held * self.dtype.size()
    }
}

/// The elements from the first to the last of a tensor; `None` on overflow or if there are not as many strides as
/// dimensions.
fn held(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.len() != strides.len() {
        return None;
    }
    if shape.contains(&0) {
        return Some(0);
    }
    let last = |last: usize, (dim, stride): (&usize, &usize)| last.checked_add((dim - 1).checked_mul(*stride)?);
    shape.iter().zip(strides).try_fold(0, last)?.checked_add(1)
}

impl TensorSource for Memory<'_> {
    fn with_view(&self, read: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let Self { address, dtype, shape, strides, held, .. } = *self;
        let mut aligned: Vec<u64> = Vec::new();
        let mut data: *const u8 = std::ptr::with_exposed_provenance(address);
        if held > 0 && !address.is_multiple_of(dtype.size()) {
            let bytes = self.bytes();
            aligned.try_reserve_exact(bytes.div_ceil(8)).map_err(|_| Error::Memory { bytes })?;
            aligned.resize(bytes.div_ceil(8), 0);
            // SAFETY: the caller of `Site` keeps the tensor alive, whose library says that these bytes are there; the
            // copy has room for them.
            unsafe { std::ptr::copy_nonoverlapping(data, aligned.as_mut_ptr().cast(), bytes) };
            data = aligned.as_ptr().cast();
        }
        macro_rules! elements {
            ($($name:ident),*) => {
                match dtype {
                    // SAFETY: the library says that the elements are there, and the caller keeps them alive; `data` is
                    // aligned for them, and every pattern of bits is a value of these types.
                    $(Dtype::$name => Elements::$name(unsafe { borrowed(data, held) }),)*
                    other => return Err(Error::NotRecordable(other.name().to_owned())),
                }
            };
        }
        let elements = elements!(F32, F16, BF16, F64, F8E4M3, F8E5M2, U8, I16, U32, I32, I64);
        read(&TensorView::strided(elements, 0, shape, strides)?)
    }

    fn device(&self) -> Option<String> {
        self.device.map(str::to_owned)
    }
}

/// # Safety
///
/// If `held` is not 0, the pointer is aligned for `T` and points to that many elements.
unsafe fn borrowed<'a, T>(data: *const u8, held: usize) -> &'a [T] {
    if held == 0 {
        return &[];
    }
    // SAFETY: as this function requires.
    unsafe { slice::from_raw_parts(data.cast(), held) }
}
