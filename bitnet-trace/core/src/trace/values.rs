//! Reads captured values from the safetensors files beside the records.
//!
//! A file is treated as hostile until its header agrees with its record and with the length of the file. Only then are
//! the elements read, and exactly as many bytes as the shape and the type of the record take.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use bytemuck::{Pod, Zeroable};

use crate::digest::dtype::{f8e4m3, f8e5m2};
use crate::digest::float16::{bf16_to_f32, f16_to_f32};
use crate::digest::{Dtype, Elements, TensorSource, TensorView, visit_bytes};
use crate::error::Error;
use crate::record::TraceRecord;
use crate::serial::impl_serde;
use crate::trace::pieces::open;

/// The largest header that is accepted, in bytes, without the name of its tensor.
const HEADER: u64 = 64 * 1024;

/// The most bytes that JSON needs to escape one byte of a name.
const ESCAPED: u64 = 6;

/// The size of the field that holds the length of the header, in bytes.
const LENGTH: u64 = 8;

/// The elements of a captured tensor in row-major order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Values {
    /// The tensor's own type.
    pub dtype: Dtype,
    /// Dimensions, slowest first.
    pub shape: Vec<usize>,
    /// The elements, little-endian.
    pub bytes: Vec<u8>,
}

impl Values {
    /// Copies the elements of a view.
    pub(crate) fn copy(view: &TensorView<'_>) -> Result<Self, Error> {
        let (dtype, shape) = (view.dtype(), view.shape().to_vec());
        let mut bytes = Vec::new();
        let size = view.count() * dtype.size();
        bytes.try_reserve_exact(size).map_err(|_| Error::Memory { bytes: size })?;
        let copied = visit_bytes(view, &mut |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        });
        copied.map_err(|error| Error::Tensor(error.into()))?;
        Ok(Self { dtype, shape, bytes })
    }

    /// The number of elements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bytes.len() / self.dtype.size()
    }

    /// The elements as f64, in row-major order. Integers of a magnitude beyond 2^53 are rounded.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // as the documentation says
    pub fn to_f64(&self) -> Vec<f64> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)).collect()
        }
        let bytes = &self.bytes;
        match self.dtype {
            Dtype::U8 => each(bytes, |[byte]| f64::from(byte)),
            Dtype::U32 => each(bytes, |bytes| u32::from_le_bytes(bytes).into()),
            Dtype::I16 => each(bytes, |bytes| i16::from_le_bytes(bytes).into()),
            Dtype::I32 => each(bytes, |bytes| i32::from_le_bytes(bytes).into()),
            Dtype::I64 => each(bytes, |bytes| i64::from_le_bytes(bytes) as f64),
            Dtype::BF16 => each(bytes, |bytes| bf16_to_f32(u16::from_le_bytes(bytes)).into()),
            Dtype::F16 => each(bytes, |bytes| f16_to_f32(u16::from_le_bytes(bytes)).into()),
            Dtype::F32 => each(bytes, |bytes| f32::from_le_bytes(bytes).into()),
            Dtype::F64 => each(bytes, f64::from_le_bytes),
            Dtype::F8E4M3 => each(bytes, |[byte]| f8e4m3(byte).into()),
            Dtype::F8E5M2 => each(bytes, |[byte]| f8e5m2(byte).into()),
        }
    }
}

/// The elements in the byte order of this processor. They are borrowed if byte order and alignment allow it, else
/// copied.
impl TensorSource for Values {
    fn with_view(&self, read: &mut dyn FnMut(&TensorView<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let bytes = &self.bytes[..];
        let (mut two, mut four, mut eight) = (Vec::new(), Vec::new(), Vec::new());
        let elements = match self.dtype {
            Dtype::U8 => Elements::U8(bytes),
            Dtype::F8E4M3 => Elements::F8E4M3(bytes),
            Dtype::F8E5M2 => Elements::F8E5M2(bytes),
            Dtype::BF16 => Elements::BF16(native(bytes, &mut two)),
            Dtype::F16 => Elements::F16(native(bytes, &mut two)),
            Dtype::I16 => Elements::I16(bytemuck::cast_slice(native::<u16>(bytes, &mut two))),
            Dtype::U32 => Elements::U32(native(bytes, &mut four)),
            Dtype::I32 => Elements::I32(bytemuck::cast_slice(native::<u32>(bytes, &mut four))),
            Dtype::F32 => Elements::F32(bytemuck::cast_slice(native::<u32>(bytes, &mut four))),
            Dtype::I64 => Elements::I64(bytemuck::cast_slice(native::<u64>(bytes, &mut eight))),
            Dtype::F64 => Elements::F64(bytemuck::cast_slice(native::<u64>(bytes, &mut eight))),
        };
        read(&TensorView::contiguous(elements, &self.shape)?)
    }
}

/// Little-endian bytes as elements of this processor. If they cannot be borrowed, `copy` holds them.
fn native<'a, T: Pod + Zeroable>(bytes: &'a [u8], copy: &'a mut Vec<T>) -> &'a [T] {
    if cfg!(target_endian = "little")
        && let Ok(elements) = bytemuck::try_cast_slice(bytes)
    {
        return elements;
    }
    copy.resize(bytes.len() / size_of::<T>(), T::zeroed());
    let to: &mut [u8] = bytemuck::cast_slice_mut(copy);
    to.copy_from_slice(&bytes[..to.len()]);
    if cfg!(target_endian = "big") {
        to.chunks_exact_mut(size_of::<T>()).for_each(<[u8]>::reverse);
    }
    copy
}

/// Reads the captured values of a record that lies in `directory`.
pub(crate) fn read_values(directory: &Path, record: &TraceRecord) -> Result<Option<Values>, Error> {
    let Some(CapturedFile { path, file, dtype, size, .. }) = open_captured(directory, record)? else { return Ok(None) };
    let damaged = |reason: String| Error::Values { path: path.clone(), reason };
    let mut bytes = Vec::new();
    let room = usize::try_from(size).ok().filter(|size| bytes.try_reserve_exact(*size).is_ok());
    if room.is_none() {
        return Err(damaged(format!("not enough memory for {size} bytes of values")));
    }
    file.take(size).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
    if bytes.len() as u64 != size {
        return Err(damaged(format!(
            "the file ended after {} of {size} bytes of values while it was read",
            bytes.len()
        )));
    }
    Ok(Some(Values { dtype, shape: record.shape.clone(), bytes }))
}

/// An open file of captured values, whose header agrees with the record.
pub(crate) struct CapturedFile {
    pub(crate) path: PathBuf,
    /// Its position is that of the first element.
    pub(crate) file: File,
    pub(crate) dtype: Dtype,
    /// The size of the elements in bytes.
    pub(crate) size: u64,
    /// The size of the whole file in bytes.
    pub(crate) length: u64,
}

/// Opens the file with the values of a record that lies in `directory`. It has to be a regular file inside that
/// directory. Only the header is read.
pub(crate) fn open_captured(directory: &Path, record: &TraceRecord) -> Result<Option<CapturedFile>, Error> {
    let Some(file) = &record.values else { return Ok(None) };
    let path = directory.join(file);
    let damaged = |reason: String| Error::Values { path: path.clone(), reason };
    if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(damaged(format!("{file:?} is not a path inside the trace directory")));
    }
    // A link may lead out of the directory.
    let inside = |path: &Path| path.canonicalize().map_err(Error::io("read", path));
    if !inside(&path)?.starts_with(inside(directory)?) {
        return Err(damaged("the path leads out of the trace directory".to_owned()));
    }
    let mut file = open(&path)?;
    let length = file.metadata().map_err(Error::io("read", &path))?.len();
    if length < LENGTH {
        return Err(damaged(format!("expected a safetensors file, found {length} bytes")));
    }
    let mut header_length = [0; size_of::<u64>()];
    file.read_exact(&mut header_length).map_err(Error::io("read", &path))?;
    let header_length = u64::from_le_bytes(header_length);
    let most = HEADER.saturating_add(ESCAPED.saturating_mul(record.name.len() as u64)).min(length - LENGTH);
    if header_length > most {
        return Err(damaged(format!("expected a safetensors header of at most {most} bytes, found {header_length}")));
    }
    let mut header = Vec::new();
    file.by_ref().take(header_length).read_to_end(&mut header).map_err(Error::io("read", &path))?;
    let (dtype, size) = agreed(&header, record).map_err(damaged)?;
    let data = length - LENGTH - header_length;
    if data != size {
        return Err(damaged(format!("the header names {size} bytes of values, the file has {data}")));
    }
    Ok(Some(CapturedFile { path, file, dtype, size, length }))
}

/// The entry of a tensor in the header.
struct TensorHeader {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

impl_serde! { Deserialize for TensorHeader { dtype, shape, data_offsets } }

/// The only key of a header that is not the name of a tensor.
const METADATA: &str = "__metadata__";

/// The type and the size in bytes, if header and record agree.
fn agreed(header: &[u8], record: &TraceRecord) -> Result<(Dtype, u64), String> {
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| format!("the safetensors header is damaged: {error}"))?;
    let mut tensors = header.into_iter().filter(|(name, _)| name != METADATA);
    let (Some((_, tensor)), None) = (tensors.next(), tensors.next()) else {
        return Err("expected one tensor in the safetensors header".to_owned());
    };
    let TensorHeader { dtype: name, shape, data_offsets } =
        serde_json::from_value(tensor).map_err(|error| format!("the safetensors header is damaged: {error}"))?;
    let dtype = Dtype::of_safetensors(&name).ok_or_else(|| format!("values of type {name:?} cannot be read"))?;
    if dtype.name() != record.dtype {
        return Err(format!("the values have the type {}, their record says {}", dtype.name(), record.dtype));
    }
    if shape != record.shape {
        return Err(format!("the values have shape {shape:?}, their record says {:?}", record.shape));
    }
    let elements = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    if elements != Some(record.num_elements) {
        return Err(format!(
            "the shape {shape:?} does not have the {} elements that the record says",
            record.num_elements
        ));
    }
    let size = (record.num_elements as u64).checked_mul(dtype.size() as u64);
    match size {
        Some(size) if data_offsets == [0, size] => Ok((dtype, size)),
        _ => Err(format!(
            "the header places the values at bytes {data_offsets:?}, {} elements of type {} take {}",
            record.num_elements,
            dtype.name(),
            size.map_or_else(|| "more bytes than a file has".to_owned(), |size| format!("[0, {size}]"))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::Values;
    use crate::digest::{Dtype, Elements, TensorSource, TensorView, Wanted, digest};

    #[test]
    fn a_copy_has_the_elements_of_the_view() {
        let data: Vec<f32> = (0..12u8).map(f32::from).collect();
        let view = TensorView::strided(Elements::F32(&data), 1, &[3, 2], &[2, 5]).expect("inside");
        let values = Values::copy(&view).expect("small");
        assert_eq!(values.to_f64(), [1.0, 6.0, 3.0, 8.0, 5.0, 10.0]);
        let before = digest(&view, Wanted::default()).blake3;
        // The bytes may begin at any address.
        for shift in 0..8 {
            let mut bytes = vec![0; shift];
            bytes.extend_from_slice(&values.bytes);
            let shown = Values { bytes: bytes.split_off(shift), ..values.clone() };
            shown
                .with_view(&mut |view| {
                    assert_eq!(digest(view, Wanted::default()).blake3, before);
                    Ok(())
                })
                .expect("shown");
        }
    }

    #[test]
    fn values_of_fewer_bytes_than_their_shape_takes_are_refused() {
        let values = Values { dtype: Dtype::F32, shape: vec![3], bytes: vec![0; 8] };
        let error = values.with_view(&mut |_| Ok(())).expect_err("too few");
        assert!(error.to_string().contains("holds 2 elements"), "{error}");
    }
}
