//! A trace as a table, a row a record: for spreadsheets and data frames.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use bitnet_trace_core::{Error, Trace, TraceRecord};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;


/// What a column holds.
#[derive(Clone, Copy)]
enum Kind {
    /// An index or a count.
    Integer,
    /// Any 64-bit number.
    Unsigned,
    Float,
    /// Lists as JSON.
    Text,
}

/// The columns, in this order: the record's fields but for sketch and rows.
const COLUMNS: [(&str, Kind); 25] = [
    ("order", Kind::Unsigned),
    ("name", Kind::Text),
    ("request", Kind::Unsigned),
    ("seq_index", Kind::Integer),
    ("layer_idx", Kind::Integer),
    ("stage", Kind::Text),
    ("output", Kind::Text),
    ("io", Kind::Text),
    ("call", Kind::Integer),
    ("tokens", Kind::Text),
    ("shape", Kind::Text),
    ("dtype", Kind::Text),
    ("num_elements", Kind::Integer),
    ("rms", Kind::Float),
    ("min", Kind::Float),
    ("max", Kind::Float),
    ("mean", Kind::Float),
    ("nan_count", Kind::Integer),
    ("inf_count", Kind::Integer),
    ("zero_count", Kind::Integer),
    ("blake3", Kind::Text),
    ("raw_blake3", Kind::Text),
    ("values", Kind::Text),
    ("site", Kind::Text),
    ("device", Kind::Text),
];

/// Writes the records of a trace with `write` into a file that is not there yet. Gives their number.
pub(crate) fn write(
    trace: &Trace,
    path: &Path,
    write: impl FnOnce(&[TraceRecord], &Path) -> Result<(), Error>,
) -> Result<usize, Error> {
    write(trace.records(), path)?;
    Ok(trace.records().len())
}

fn failed_to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

fn json(record: &TraceRecord, path: &Path) -> Result<Value, Error> {
    serde_json::to_value(record).map_err(|error| failed_to("write", path)(error.into()))
}

/// As it stands in a cell; none for a field that the record has not.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

/// Writes a new file of comma-separated values, with a head line.
pub(crate) fn write_csv(records: &[TraceRecord], path: &Path) -> Result<(), Error> {
    let failed = |error: csv::Error| failed_to("write", path)(std::io::Error::other(error));
    let file = File::create_new(path).map_err(failed_to("create", path))?;
    let mut table = csv::Writer::from_writer(BufWriter::new(file));
    table.write_record(COLUMNS.map(|(name, _)| name)).map_err(failed)?;
    for record in records {
        let record = json(record, path)?;
        table.write_record(COLUMNS.map(|(name, _)| text(&record[name]).unwrap_or_default())).map_err(failed)?;
    }
    table.flush().map_err(failed_to("write", path))
}

/// The cells of an integer column that have a value. Parquet stores an unsigned number as the signed one of
/// the same bits; an index or count that is no signed number is refused.
fn integers(rows: &[Value], name: &str, kind: Kind, path: &Path) -> Result<Vec<i64>, Error> {
    let cells = rows.iter().filter_map(|row| Some((row, row[name].as_u64()?)));
    let integer = |(row, number): (&Value, u64)| match kind {
        Kind::Unsigned => Ok(number.cast_signed()),
        _ => i64::try_from(number).map_err(|_| {
            let reason =
                format!("{name} of the record {} is {number}, Parquet's INT64 ends at {}", row["name"], i64::MAX);
            failed_to("write", path)(std::io::Error::other(reason))
        }),
    };
    cells.map(integer).collect()
}

/// Writes a new Parquet file of one row group.
pub(crate) fn write_parquet(records: &[TraceRecord], path: &Path) -> Result<(), Error> {
    let failed = |error: parquet::errors::ParquetError| failed_to("write", path)(std::io::Error::other(error));
    let columns = COLUMNS.map(|(name, kind)| match kind {
        Kind::Integer => format!("OPTIONAL INT64 {name};"),
        Kind::Unsigned => format!("OPTIONAL INT64 {name} (INTEGER(64,false));"),
        Kind::Float => format!("OPTIONAL DOUBLE {name};"),
        Kind::Text => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
    });
    let schema = parse_message_type(&format!("message trace {{ {} }}", columns.join(" "))).map_err(failed)?;
    let rows = records.iter().map(|record| json(record, path)).collect::<Result<Vec<_>, _>>()?;
    // Before there is a file.
    let mut numbers = Vec::new();
    for (name, kind) in COLUMNS.into_iter().filter(|(_, kind)| matches!(kind, Kind::Integer | Kind::Unsigned)) {
        numbers.push(integers(&rows, name, kind, path)?);
    }
    let mut numbers = numbers.into_iter();
    let file = File::create_new(path).map_err(failed_to("create", path))?;
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties).map_err(failed)?;
    let mut group = writer.next_row_group().map_err(failed)?;
    for (name, kind) in COLUMNS {
        let Some(mut column) = group.next_column().map_err(failed)? else { break };
        // 1 where the row has a value, which then is the next of the values.
        let levels =
            |there: &dyn Fn(&Value) -> bool| rows.iter().map(|row| i16::from(there(&row[name]))).collect::<Vec<_>>();
        match kind {
            Kind::Integer | Kind::Unsigned => {
                let values = numbers.next().unwrap_or_default();
                let levels = levels(&Value::is_u64);
                column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).map_err(failed)?;
            }
            Kind::Float => {
                let values: Vec<f64> = rows.iter().filter_map(|row| row[name].as_f64()).collect();
                let levels = levels(&|value| value.as_f64().is_some());
                column.typed::<DoubleType>().write_batch(&values, Some(&levels), None).map_err(failed)?;
            }
            Kind::Text => {
                let values: Vec<ByteArray> =
                    rows.iter().filter_map(|row| Some(ByteArray::from(text(&row[name])?.into_bytes()))).collect();
                let levels = levels(&|value| !value.is_null());
                column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).map_err(failed)?;
            }
        }
        column.close().map_err(failed)?;
    }
    group.close().map_err(failed)?;
    writer.close().map_err(failed)?;
    Ok(())
}
