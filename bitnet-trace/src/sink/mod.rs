//! Where records go.

mod files;
mod memory;

use candle_core::Tensor;

pub(crate) use files::Files;
pub(crate) use memory::Memory;

use crate::error::Error;
use crate::record::TraceRecord;

/// One of the ways to keep a record. Each keeps it before it returns: a record whose call came back
/// survives a killed process.
pub(crate) enum Sink {
    Files(Files),
    Memory(Memory),
}

impl Sink {
    /// Keeps one record; `values` are its tensor, where values were asked for.
    pub(crate) fn write(&self, record: &TraceRecord, values: Option<&Tensor>) -> Result<(), Error> {
        match self {
            Self::Files(files) => files.write(record),
            Self::Memory(memory) => memory.write(record, values),
        }
    }
}
