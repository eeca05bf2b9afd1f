//! A tensor in the memory of a C program becomes a view and a record.
//!
//! `unsafe` is needed here because C passes tensors as pointers.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_void};
use std::slice;

use bitnet_trace_core::digest::{Elements, TensorSource, TensorView};
use bitnet_trace_core::session::{self, Draft, OUT, Plain, may_record};
use bitnet_trace_core::{Error, TraceContext, record_name};

use crate::border::{Failure, Status, returned, text};

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub enum Dtype {
    /// IEEE single precision.
    BtF32 = 0,
    /// IEEE half precision.
    BtF16 = 1,
    /// bfloat16.
    BtBf16 = 2,
    /// IEEE double precision.
    BtF64 = 3,
    /// 8-bit floats with 4 exponent bits, without infinities: PyTorch's `float8_e4m3fn`.
    BtF8E4m3 = 4,
    /// 8-bit floats with 5 exponent bits: PyTorch's `float8_e5m2`.
    BtF8E5m2 = 5,
    /// Unsigned 8-bit integers.
    BtU8 = 6,
    /// Signed 16-bit integers.
    BtI16 = 7,
    /// Unsigned 32-bit integers.
    BtU32 = 8,
    /// Signed 32-bit integers.
    BtI32 = 9,
    /// Signed 64-bit integers.
    BtI64 = 10,
}

/// The most dimensions of a tensor.
const MOST_DIMENSIONS: usize = 16;

impl Dtype {
    fn of(code: i32) -> Result<Self, Failure> {
        const ALL: [Dtype; 11] = [
            Dtype::BtF32,
            Dtype::BtF16,
            Dtype::BtBf16,
            Dtype::BtF64,
            Dtype::BtF8E4m3,
            Dtype::BtF8E5m2,
            Dtype::BtU8,
            Dtype::BtI16,
            Dtype::BtU32,
            Dtype::BtI32,
            Dtype::BtI64,
        ];
        let known = usize::try_from(code).ok().and_then(|code| ALL.get(code));
        known.copied().ok_or_else(|| {
            let message = format!("`dtype` is {code}; expected a `bt_dtype`, 0 to {}", ALL.len() - 1);
            Failure::of("dtype", Status::BtInvalid, message)
        })
    }

    /// Bytes of an element, which are also its alignment.
    fn size(self) -> usize {
        match self {
            Self::BtF8E4m3 | Self::BtF8E5m2 | Self::BtU8 => 1,
            Self::BtF16 | Self::BtBf16 | Self::BtI16 => 2,
            Self::BtF32 | Self::BtU32 | Self::BtI32 => 4,
            Self::BtF64 | Self::BtI64 => 8,
        }
    }
}

/// A tensor as C describes it. The filters decide before its memory is touched.
struct Source<'a> {
    data: *const u8,
    dtype: Dtype,
    shape: &'a [usize],
    /// `None` for row-major order without gaps.
    strides: Option<&'a [usize]>,
    /// Elements from the first to the last, both included.
    held: usize,
}

impl TensorSource for Source<'_> {
    fn with_view(&self, read: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let Self { data, dtype, shape, strides, held } = *self;
        let mut aligned: Vec<u64> = Vec::new();
        let bytes = held * dtype.size();
        let data = if data.addr().is_multiple_of(dtype.size()) || held == 0 {
            data
        } else {
            aligned.try_reserve_exact(bytes.div_ceil(8)).map_err(|_| Error::Memory { bytes })?;
            aligned.resize(bytes.div_ceil(8), 0);
            // SAFETY: `bt_record` requires that these bytes are there; the copy has room for them.
            unsafe { std::ptr::copy_nonoverlapping(data, aligned.as_mut_ptr().cast(), bytes) };
            aligned.as_ptr().cast()
        };
        macro_rules! elements {
            ($($dtype:ident => $elements:ident),*) => {
                match dtype {
                    // SAFETY: `bt_record` requires that the elements are there, `checked` that their bytes can be
                    // counted; `data` is aligned for them, and every pattern of bits is a value of these types.
                    $(Dtype::$dtype => Elements::$elements(unsafe { borrowed(data, held) }),)*
                }
            };
        }
        let elements = elements!(
            BtF32 => F32, BtF16 => F16, BtBf16 => BF16, BtF64 => F64, BtF8E4m3 => F8E4M3, BtF8E5m2 => F8E5M2,
            BtU8 => U8, BtI16 => I16, BtU32 => U32, BtI32 => I32, BtI64 => I64
        );
        let view = match strides {
            Some(strides) => TensorView::strided(elements, 0, shape, strides)?,
            None => TensorView::contiguous(elements, shape)?,
        };
        read(&view)
    }
}

/// # Safety
///
/// If `held` is not 0, the pointer is aligned for `T` and points to that many elements, whose bytes can be counted.
unsafe fn borrowed<'a, T>(data: *const u8, held: usize) -> &'a [T] {
    if held == 0 {
        return &[];
    }
    // SAFETY: as this function requires.
    unsafe { slice::from_raw_parts(data.cast(), held) }
}

impl<'a> Source<'a> {
    /// Checks what can be checked without touching the tensor's memory.
    fn checked(
        data: *const u8,
        dtype: Dtype,
        shape: &'a [usize],
        strides: Option<&'a [usize]>,
    ) -> Result<Self, Failure> {
        let held = if shape.contains(&0) { Some(0) } else { held(shape, strides) };
        let held = held.filter(|held| *held <= isize::MAX.unsigned_abs() / dtype.size()).ok_or_else(|| {
            let (argument, strides) = strides
                .map_or_else(|| ("dims", String::new()), |strides| ("strides", format!(" and strides {strides:?}")));
            let message = format!("no memory holds a tensor of dimensions {shape:?}{strides}");
            Failure::of(argument, Status::BtInvalid, message)
        })?;
        if data.is_null() && held > 0 {
            let message = format!("`data` is NULL for a tensor of dimensions {shape:?}");
            return Err(Failure::of("data", Status::BtNull, message));
        }
        Ok(Self { data, dtype, shape, strides, held })
    }
}

/// The elements from the first to the last of a tensor that is not empty; `None` on overflow.
fn held(shape: &[usize], strides: Option<&[usize]>) -> Option<usize> {
    match strides {
        None => shape.iter().try_fold(1usize, |count, dim| count.checked_mul(*dim)),
        Some(strides) => {
            let last = shape
                .iter()
                .zip(strides)
                .try_fold(0usize, |last, (dim, stride)| last.checked_add((dim - 1).checked_mul(*stride)?));
            last?.checked_add(1)
        }
    }
}

/// Reads dimensions or strides into a buffer; `None` for NULL.
///
/// # Safety
///
/// The pointer is NULL or points to `count` numbers.
unsafe fn numbers<'a>(
    argument: &'static str,
    count: i32,
    pointer: *const i64,
    buffer: &'a mut [usize; MOST_DIMENSIONS],
) -> Result<Option<&'a [usize]>, Failure> {
    let invalid = |message: String| Failure::of(argument, Status::BtInvalid, message);
    let known = usize::try_from(count).ok().filter(|count| *count <= MOST_DIMENSIONS);
    let count = known.ok_or_else(|| {
        let message = format!("`n_dims` is {count}; expected 0 to {MOST_DIMENSIONS}");
        Failure::of("n_dims", Status::BtInvalid, message)
    })?;
    if count == 0 {
        return Ok(Some(&[]));
    }
    if pointer.is_null() {
        return Ok(None);
    }
    if !pointer.is_aligned() {
        return Err(invalid(format!("`{argument}` is not aligned for 64-bit integers")));
    }
    // SAFETY: as this function requires; it was checked for NULL and alignment.
    let given = unsafe { slice::from_raw_parts(pointer, count) };
    for (place, number) in buffer.iter_mut().zip(given) {
        *place = usize::try_from(*number).map_err(|_| {
            invalid(format!("`{argument}` holds {number}; copy such a tensor to row-major order first"))
        })?;
    }
    Ok(Some(&buffer[..count]))
}

/// Records a tensor in the scope of this thread. While nothing records it returns at once.
///
/// `stage` is the fine name of the computation (`q_proj`), by which two traces are aligned. With `stage` and without
/// `name`, the record's name is made of step, layer and stage. With `name` alone, the name is kept as it is given
/// (`Qcur-3`), and a map of names can give it a stage. One of the two is needed.
///
/// `dtype` is a `bt_dtype`. `dims` are `n_dims` numbers, the slowest dimension first; `strides` are the distances
/// between neighbours in each dimension, in elements, or NULL for a tensor in row-major order without gaps. A stride of
/// 0 repeats an element. `data` is the first element; the tensor is read before the function returns.
///
/// A tensor that cannot be recorded is counted as lost in `run.json`, with one count and one warning for each argument
/// that was refused and for each other cause.
///
/// # Safety
///
/// `name` and `stage` are NULL or texts that end with a zero byte. `dims` and `strides` are NULL or `n_dims` numbers.
/// `data` is NULL or points to memory that holds every element that `dims` and `strides` describe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn bt_record(
    name: *const c_char,
    data: *const c_void,
    dtype: i32,
    n_dims: i32,
    dims: *const i64,
    strides: *const i64,
    stage: *const c_char,
) -> Status {
    returned(|| {
        if !may_record() {
            return Ok(());
        }
        let Some(session) = session::active::<Plain>() else { return Ok(()) };
        let context = TraceContext::current();
        let arguments = Arguments { name, data: data.cast(), dtype, n_dims, dims, strides, stage };
        let mut buffers = [[0; MOST_DIMENSIONS]; 2];
        // SAFETY: as this function requires.
        let checked = unsafe { arguments.checked(&context, &mut buffers) };
        let (source, draft) = checked.inspect_err(|failure| {
            session.lose(&refused(failure));
        })?;
        draft.record(&source, &session).map_err(|error| {
            session.lose(&error);
            error.into()
        })
    })
}

/// What is counted as lost. The cause names the argument, so that each has one warning and one count.
fn refused(failure: &Failure) -> Error {
    let argument = failure.argument.unwrap_or("an argument");
    Error::Foreign { cause: format!("bt_record refused `{argument}`"), message: failure.message.clone() }
}

/// The arguments of `bt_record`, of which nothing is known yet.
struct Arguments {
    name: *const c_char,
    data: *const u8,
    dtype: i32,
    n_dims: i32,
    dims: *const i64,
    strides: *const i64,
    stage: *const c_char,
}

impl Arguments {
    /// # Safety
    ///
    /// The arguments are as `bt_record` requires.
    unsafe fn checked<'a>(
        &self,
        context: &'a TraceContext,
        [shape, strides]: &'a mut [[usize; MOST_DIMENSIONS]; 2],
    ) -> Result<(Source<'a>, Draft<'a>), Failure> {
        // SAFETY: as this function requires.
        let (name, stage, shape, strides) = unsafe {
            let (name, stage) = (text("name", self.name)?, text("stage", self.stage)?);
            let shape = numbers("dims", self.n_dims, self.dims, shape)?;
            (name, stage, shape, numbers("strides", self.n_dims, self.strides, strides)?)
        };
        let shape =
            shape.ok_or_else(|| Failure::of("dims", Status::BtNull, "`dims` is NULL, but `n_dims` is not 0"))?;
        let source = Source::checked(self.data, Dtype::of(self.dtype)?, shape, strides)?;
        let name = match (name, stage) {
            (Some(name), _) => name.to_owned(),
            (None, Some(stage)) => record_name(context.seq, context.layer, stage, ""),
            (None, None) => return Err(Failure::of("name", Status::BtNull, "a record needs a `name` or a `stage`")),
        };
        Ok((source, Draft { name, stage, output: None, io: OUT, site: None, context }))
    }
}
