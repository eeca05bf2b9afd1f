//! The sink of `BITNET_TRACE_PRINT`: one line per record on standard error.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use crate::record::TraceRecord;

/// Prints the record. It is one write because several processes may share standard error. A failure is ignored:
/// the model goes on when standard error is closed.
pub(crate) fn print(record: &TraceRecord) {
    let _ = io::stderr().write_all(format!("{}\n", RecordLine(record)).as_bytes());
}

/// Name, shape, type, statistics, the first 8 digits of the hash, and the place in the source.
struct RecordLine<'a>(&'a TraceRecord);

impl fmt::Display for RecordLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(record) = self;
        let hash = record.blake3.get(..8).unwrap_or(&record.blake3);
        write!(f, "{} {:?} {} rms={:.6}", record.name, record.shape, record.dtype, record.rms)?;
        for (label, value) in [("mean", record.mean), ("min", record.min), ("max", record.max)] {
            if let Some(value) = value {
                write!(f, " {label}={value:.6}")?;
            }
        }
        for (label, count) in [("nan", record.nan_count), ("inf", record.inf_count), ("zero", record.zero_count)] {
            if count > 0 {
                write!(f, " {label}={count}")?;
            }
        }
        write!(f, " {hash}")?;
        if let Some(site) = &record.site {
            f.write_char(' ')?;
            f.write_str(site)?;
        }
        Ok(())
    }
}
