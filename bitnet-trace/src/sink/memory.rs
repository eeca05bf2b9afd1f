//! Records kept in memory, for unit tests and for programs that look at their own trace.

use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;

use crate::error::Error;
use crate::losses::guarded;
use crate::record::TraceRecord;

/// Records in the order in which they were written, with their tensors where values were asked for.
#[derive(Default)]
pub(crate) struct Memory {
    records: Mutex<Vec<(TraceRecord, Option<Tensor>)>>,
}

impl Memory {
    /// Copies the values: candle's tensors share their storage with operations in place. Gives the
    /// reason if they cannot be copied; the record is kept without them.
    pub(crate) fn write(&self, record: &TraceRecord, values: Option<&Tensor>) -> Option<Error> {
        let copied = values.map(|values| guarded("copying the values", || Ok(values.copy()?))).transpose();
        let (values, lost) = copied.map_or_else(|error| (None, Some(error)), |values| (values, None));
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push((record.clone(), values));
        lost
    }

    /// Everything written so far, which is then forgotten.
    pub(crate) fn take(&self) -> Vec<(TraceRecord, Option<Tensor>)> {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
