//! Captured values: safetensors files beside the records.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

use candle_core::{Device, Tensor};

use crate::error::Error;
use crate::pieces::open;
use crate::record::TraceRecord;

/// What a safetensors file of one tensor has beside the data, and more.
const HEADER: u64 = 64 * 1024;

/// Bytes of the widest type.
const WIDEST: u64 = 8;

/// The captured tensor of a record that lies in `directory`.
pub(crate) fn captured(directory: &Path, record: &TraceRecord) -> Result<Option<Tensor>, Error> {
    let Some(Captured { path, file, most }) = open_captured(directory, record)? else { return Ok(None) };
    let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
    if bytes.len() as u64 > most {
        return Err(damaged(format!("more than {most} bytes for {} elements", record.num_elements)));
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
    let mut tensors = tensors.map_err(|error| damaged(error.to_string()))?.into_values();
    match (tensors.next(), tensors.next()) {
        (Some(tensor), None) if tensor.dims() == record.shape => Ok(Some(tensor)),
        (Some(tensor), None) => {
            Err(damaged(format!("the values have shape {:?}, their record says {:?}", tensor.dims(), record.shape)))
        }
        _ => Err(damaged("expected one tensor".to_owned())),
    }
}

/// The file of a record's captured values.
pub(crate) struct Captured {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// No more bytes can be the record's.
    pub(crate) most: u64,
}

/// Opens the file of the values of a record that lies in `directory`: a regular file inside it.
pub(crate) fn open_captured(directory: &Path, record: &TraceRecord) -> Result<Option<Captured>, Error> {
    let Some(file) = &record.values else { return Ok(None) };
    let path = directory.join(file);
    let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
    if !Path::new(file).components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(damaged(format!("{file:?} is not a path inside the trace directory")));
    }
    // A link may lead out of the directory.
    let inside = |path: &Path| path.canonicalize().map_err(Error::io("read", path));
    if !inside(&path)?.starts_with(inside(directory)?) {
        return Err(damaged("leads out of the trace directory".to_owned()));
    }
    let file = open(&path)?;
    let most = (record.num_elements as u64).saturating_mul(WIDEST).saturating_add(HEADER);
    Ok(Some(Captured { path, file, most }))
}
