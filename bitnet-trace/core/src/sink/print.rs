//! `BITNET_TRACE_PRINT`: one line a record on standard error.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};

use crate::record::TraceRecord;

/// Prints the record, in one write: several processes may share standard error. If it is closed, the
/// model goes on.
pub(crate) fn print(record: &TraceRecord) {
    let _ = io::stderr().write_all(format!("{}\n", Line(record)).as_bytes());
}

/// Name, shape, type, statistics, beginning of the hash, place in the source.
struct Line<'a>(&'a TraceRecord);

impl fmt::Display for Line<'_> {
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
