//! Keeps records in memory, for unit tests and for programs that read their own trace.

use std::sync::Mutex;

use crate::digest::TensorView;
use crate::error::Error;
use crate::failing::{guarded, locked};
use crate::record::TraceRecord;
use crate::trace::Values;

/// The records in the order in which they were written, each with its values if they were asked for.
#[derive(Default)]
pub(crate) struct Memory {
    records: Mutex<Vec<(TraceRecord, Option<Values>)>>,
}

impl Memory {
    /// Keeps a record. The values are copied, because an in-place operation may change the tensor later. If they
    /// cannot be copied, the record is kept without them and the error is returned.
    pub(crate) fn write(&self, record: &TraceRecord, values: Option<&TensorView<'_>>) -> Option<Error> {
        let copied = values.map(|values| guarded("copying the values", || Values::copy(values))).transpose();
        let (values, lost) = copied.map_or_else(|error| (None, Some(error)), |values| (values, None));
        locked(&self.records).push((record.clone(), values));
        lost
    }

    /// Removes and returns everything written so far.
    pub(crate) fn take(&self) -> Vec<(TraceRecord, Option<Values>)> {
        std::mem::take(&mut *locked(&self.records))
    }
}
