//! Records kept in memory, for unit tests and for programs that look at their own trace.

use std::sync::{Mutex, PoisonError};

use crate::digest::TensorView;
use crate::error::Error;
use crate::failing::guarded;
use crate::record::TraceRecord;
use crate::trace::Values;

/// Records in the order in which they were written, with their values where these were asked for.
#[derive(Default)]
pub(crate) struct Memory {
    records: Mutex<Vec<(TraceRecord, Option<Values>)>>,
}

impl Memory {
    /// Copies the values: an operation in place may change the tensor later. Gives the
    /// reason if they cannot be copied; the record is kept without them.
    pub(crate) fn write(&self, record: &TraceRecord, values: Option<&TensorView<'_>>) -> Option<Error> {
        let copied = values.map(|values| guarded("copying the values", || Values::copy(values))).transpose();
        let (values, lost) = copied.map_or_else(|error| (None, Some(error)), |values| (values, None));
        self.records.lock().unwrap_or_else(PoisonError::into_inner).push((record.clone(), values));
        lost
    }

    /// Everything written so far, which is then forgotten.
    pub(crate) fn take(&self) -> Vec<(TraceRecord, Option<Values>)> {
        std::mem::take(&mut *self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
