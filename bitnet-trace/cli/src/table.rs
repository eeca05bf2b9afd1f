//! A trace as a table with one row for each record, for spreadsheets and data frames.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::Arc;

use bitnet_trace_core::{Error, TraceRecord};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;

/// The type of a column.
#[derive(Clone, Copy)]
enum ColumnType {
    /// An index or a count.
    Integer,
    /// Any unsigned 64-bit number.
    Unsigned,
    Float,
    /// Text; lists are written as JSON.
    Text,
}

/// The columns in their order: all fields of a record except `sketch` and `rows`.
const COLUMNS: [(&str, ColumnType); 25] = [
    ("order", ColumnType::Unsigned),
    ("name", ColumnType::Text),
    ("request", ColumnType::Unsigned),
    ("seq_index", ColumnType::Integer),
    ("layer_idx", ColumnType::Integer),
    ("stage", ColumnType::Text),
    ("output", ColumnType::Text),
    ("io", ColumnType::Text),
    ("call", ColumnType::Integer),
    ("tokens", ColumnType::Text),
    ("shape", ColumnType::Text),
    ("dtype", ColumnType::Text),
    ("num_elements", ColumnType::Integer),
    ("rms", ColumnType::Float),
    ("min", ColumnType::Float),
    ("max", ColumnType::Float),
    ("mean", ColumnType::Float),
    ("nan_count", ColumnType::Integer),
    ("inf_count", ColumnType::Integer),
    ("zero_count", ColumnType::Integer),
    ("blake3", ColumnType::Text),
    ("raw_blake3", ColumnType::Text),
    ("values", ColumnType::Text),
    ("site", ColumnType::Text),
    ("device", ColumnType::Text),
];

fn failed_to(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { action, path, source }
}

fn json(record: &TraceRecord, path: &Path) -> Result<Value, Error> {
    serde_json::to_value(record).map_err(|error| failed_to("write", path)(error.into()))
}

/// The text of a cell; `None` if the record does not have the field.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        value => Some(value.to_string()),
    }
}

/// Writes a new file of comma-separated values, and returns the number of records. Its first line holds the names of
/// the columns.
pub(crate) fn write_csv(records: &[TraceRecord], path: &Path) -> Result<usize, Error> {
    let failed = |error: csv::Error| failed_to("write", path)(std::io::Error::other(error));
    let file = File::create_new(path).map_err(failed_to("create", path))?;
    let mut table = csv::Writer::from_writer(BufWriter::new(file));
    table.write_record(COLUMNS.map(|(name, _)| name)).map_err(failed)?;
    for record in records {
        let record = json(record, path)?;
        table.write_record(COLUMNS.map(|(name, _)| text(&record[name]).unwrap_or_default())).map_err(failed)?;
    }
    table.flush().map_err(failed_to("write", path))?;
    Ok(records.len())
}

/// The cells of an integer column that have a value. Parquet stores an unsigned number as the signed number with
/// the same bits. An index or a count that does not fit a signed number is an error.
fn integers(rows: &[Value], name: &str, kind: ColumnType, path: &Path) -> Result<Vec<i64>, Error> {
    let cells = rows.iter().filter_map(|row| Some((row, row[name].as_u64()?)));
    let integer = |(row, number): (&Value, u64)| match kind {
        ColumnType::Unsigned => Ok(number.cast_signed()),
        _ => i64::try_from(number).map_err(|_| {
            let reason = format!(
                "{name} of the record {} is {number}, the largest INT64 of Parquet is {}",
                row["name"],
                i64::MAX
            );
            failed_to("write", path)(std::io::Error::other(reason))
        }),
    };
    cells.map(integer).collect()
}

/// Writes a new Parquet file with one row group.
pub(crate) fn write_parquet(records: &[TraceRecord], path: &Path) -> Result<usize, Error> {
    let failed = |error: parquet::errors::ParquetError| failed_to("write", path)(std::io::Error::other(error));
    let columns = COLUMNS.map(|(name, kind)| match kind {
        ColumnType::Integer => format!("OPTIONAL INT64 {name};"),
        ColumnType::Unsigned => format!("OPTIONAL INT64 {name} (INTEGER(64,false));"),
        ColumnType::Float => format!("OPTIONAL DOUBLE {name};"),
        ColumnType::Text => format!("OPTIONAL BYTE_ARRAY {name} (UTF8);"),
    });
    let schema = parse_message_type(&format!("message trace {{ {} }}", columns.join(" "))).map_err(failed)?;
    let rows = records.iter().map(|record| json(record, path)).collect::<Result<Vec<_>, _>>()?;
    // Numbers that do not fit are found before the file is created.
    let mut numbers = Vec::new();
    for (name, kind) in
        COLUMNS.into_iter().filter(|(_, kind)| matches!(kind, ColumnType::Integer | ColumnType::Unsigned))
    {
        numbers.push(integers(&rows, name, kind, path)?);
    }
    let mut numbers = numbers.into_iter();
    let file = File::create_new(path).map_err(failed_to("create", path))?;
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, Arc::new(schema), properties).map_err(failed)?;
    let mut group = writer.next_row_group().map_err(failed)?;
    for (name, kind) in COLUMNS {
        let Some(mut column) = group.next_column().map_err(failed)? else { break };
        // Definition levels: 1 for a row that has a value, 0 for a row that has none.
        let levels =
            |there: &dyn Fn(&Value) -> bool| rows.iter().map(|row| i16::from(there(&row[name]))).collect::<Vec<_>>();
        match kind {
            ColumnType::Integer | ColumnType::Unsigned => {
                let values = numbers.next().unwrap_or_default();
                let levels = levels(&Value::is_u64);
                column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).map_err(failed)?;
            }
            ColumnType::Float => {
                let values: Vec<f64> = rows.iter().filter_map(|row| row[name].as_f64()).collect();
                let levels = levels(&|value| value.as_f64().is_some());
                column.typed::<DoubleType>().write_batch(&values, Some(&levels), None).map_err(failed)?;
            }
            ColumnType::Text => {
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
    Ok(records.len())
}
