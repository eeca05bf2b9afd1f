//! Records kept in memory, for unit tests and for programs that look at their own trace.

use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::error::Error;
use crate::record::TraceRecord;

/// Records in the order in which they were written, with their tensors where values were asked for.
#[derive(Default)]
pub(crate) struct Memory {
    records: Mutex<Vec<(TraceRecord, Option<Tensor>)>>,
}

impl Memory {
    /// Copies the values: candle's tensors share their storage with operations in place.
    pub(crate) fn write(&self, record: &TraceRecord, values: Option<&Tensor>) -> Result<(), Error> {
        let values = values.map(Tensor::copy).transpose()?;
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push((record.clone(), values));
        Ok(())
    }

    /// Everything written so far, which is then forgotten.
    pub(crate) fn take(&self) -> Vec<(TraceRecord, Option<Tensor>)> {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
