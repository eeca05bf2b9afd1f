//! Captured values: safetensors files beside the records, and what is read of them.
//!
//! A file is hostile until its header agrees with its record and with the file's length. Only then
//! are the elements read, exactly as many bytes as the record's shape and type take.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::dtype::Dtype;
use crate::error::Error;
use crate::pieces::open;
use crate::record::TraceRecord;

/// Bytes of a header besides the name of its tensor.
const HEADER: u64 = 64 * 1024;

/// JSON escapes a byte of a name by at most so many.
const ESCAPED: u64 = 6;

/// Bytes of the header's length.
const LENGTH: u64 = 8;

/// The elements of a captured tensor in row-major order.
#[derive(Debug)]
pub(crate) struct CapturedValues {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// Little-endian.
    pub(crate) bytes: Vec<u8>,
}

impl CapturedValues {
    fn to_tensor(&self) -> Result<Tensor, Error> {
        let dtype = match self.dtype {
            Dtype::U8 => DType::U8,
            Dtype::U32 => DType::U32,
            Dtype::I16 => DType::I16,
            Dtype::I32 => DType::I32,
            Dtype::I64 => DType::I64,
            Dtype::BF16 => DType::BF16,
            Dtype::F16 => DType::F16,
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F8E4M3 => DType::F8E4M3,
        };
        Ok(Tensor::from_raw_buffer(&self.bytes, dtype, &self.shape, &Device::Cpu)?)
    }
}

/// The captured elements of a record, where they are.
#[derive(Debug)]
pub(crate) enum Captured {
    /// Read from their file.
    Read(CapturedValues),
    /// A tensor of a trace in memory, in that of the CPU.
    #[cfg_attr(not(feature = "trace"), allow(dead_code))] // such traces are recorded
    InMemory(Tensor),
}

/// The captured tensor of a record that lies in `directory`.
pub(crate) fn captured(directory: &Path, record: &TraceRecord) -> Result<Option<Tensor>, Error> {
    captured_values(directory, record)?.map(|values| values.to_tensor()).transpose()
}

/// The captured elements of a record that lies in `directory`.
pub(crate) fn captured_values(directory: &Path, record: &TraceRecord) -> Result<Option<CapturedValues>, Error> {
    let Some(CapturedFile { path, file, dtype, size, .. }) = open_captured(directory, record)? else { return Ok(None) };
    let damaged = |reason: String| Error::Values { path: path.clone(), reason };
    let mut bytes = Vec::new();
    let room = usize::try_from(size).ok().filter(|size| bytes.try_reserve_exact(*size).is_ok());
    if room.is_none() {
        return Err(damaged(format!("the memory does not hold {size} bytes of values")));
    }
    file.take(size).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
    if bytes.len() as u64 != size {
        return Err(damaged(format!("it ended after {} of {size} bytes of values while it was read", bytes.len())));
    }
    Ok(Some(CapturedValues { dtype, shape: record.shape.clone(), bytes }))
}

/// The file of a record's captured values, whose header agrees with the record.
pub(crate) struct CapturedFile {
    pub(crate) path: PathBuf,
    /// To be read from the first element on.
    pub(crate) file: File,
    pub(crate) dtype: Dtype,
    /// Bytes of the elements.
    pub(crate) size: u64,
    /// Bytes of the whole file.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))] // only converting copies whole files
    pub(crate) length: u64,
}

/// Opens the file of the values of a record that lies in `directory`: a regular file inside it.
/// Nothing but the header is read.
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
        return Err(damaged("leads out of the trace directory".to_owned()));
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

/// What the header says of a tensor.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The key of a header that names no tensor.
const METADATA: &str = "__metadata__";

/// Type and size in bytes, where header and record agree.
fn agreed(header: &[u8], record: &TraceRecord) -> Result<(Dtype, u64), String> {
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| format!("the safetensors header is damaged: {error}"))?;
    let mut tensors = header.into_iter().filter(|(name, _)| name != METADATA);
    let (Some((_, tensor)), None) = (tensors.next(), tensors.next()) else {
        return Err("expected one tensor in the safetensors header".to_owned());
    };
    let Info { dtype: name, shape, data_offsets } =
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
        return Err(format!("the shape {shape:?} has not the {} elements of the record", record.num_elements));
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
