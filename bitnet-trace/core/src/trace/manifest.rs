//! Reads `run.json`.

use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use super::pieces::{LARGEST, open};
use crate::error::Error;
use crate::record::Manifest;
use crate::record::layout::{MANIFEST, OURS, SCHEMA};

impl Manifest {
    /// Reads the `run.json` of a trace directory, or the one beside a file of records. `None` if there is no such
    /// file. A field or a list entry that does not have the expected type is left out, and the rest is read.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is not the `run.json` of a trace.
    pub fn open(path: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        let path = path.as_ref();
        let directory = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
        let path = directory.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let mut json = Vec::new();
        open(&path)?.take(LARGEST).read_to_end(&mut json).map_err(Error::io("read", &path))?;
        let damaged = |reason| Error::Manifest { path: path.clone(), reason };
        let fields: Map<String, Value> = serde_json::from_slice(&json).map_err(|error| damaged(error.to_string()))?;
        if !fields.get("schema").and_then(Value::as_str).is_some_and(|schema| schema.starts_with(OURS)) {
            let found = fields.get("schema").unwrap_or(&Value::Null);
            return Err(damaged(format!("expected the `schema` {SCHEMA:?}, found {found}")));
        }
        let json = Value::Object(fields.into_iter().filter_map(fitting).collect());
        serde_json::from_value(json).map(Some).map_err(|error| damaged(error.to_string()))
    }
}

/// The field, if it has the expected type; of a list, the entries that have it.
fn fitting((name, value): (String, Value)) -> Option<(String, Value)> {
    let fits = |value: &Value| {
        let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        serde_json::from_value::<Manifest>(alone).is_ok()
    };
    let value = match value {
        value if fits(&value) => value,
        Value::Array(mut entries) => {
            entries.retain(|entry| fits(&Value::Array(vec![entry.clone()])));
            Value::Array(entries)
        }
        _ => return None,
    };
    fits(&value).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::{MANIFEST, Manifest};
    use crate::Error;

    fn read(text: &str) -> Result<Option<Manifest>, Error> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::write(directory.path().join(MANIFEST), text).expect("written");
        Manifest::open(directory.path())
    }

    /// One field or entry of a wrong type, as of another version, does not hide the others.
    #[test]
    fn what_does_not_fit_is_left_out_and_the_rest_is_read() {
        let function = |line: u64| json!({ "stage": "x", "line": line });
        let text = json!({
            "schema": "bitnet-trace/1", "host": "here", "records": 7,
            "process": -5, "lost": null, "sites": "many", "rank": "3", "annotations": ["a"], "new": [1],
            "unreached": [function(1), function(1 << 40), 5, function(2)], "arguments": ["run", 5],
        });
        let manifest = read(&text.to_string()).expect("readable").expect("there");
        assert_eq!((manifest.host.as_deref(), manifest.records), (Some("here"), 7));
        assert_eq!((manifest.process, manifest.lost, manifest.sites, manifest.rank), (0, 0, 0, None));
        assert_eq!(manifest.unreached.iter().map(|function| function.line).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(manifest.arguments, ["run"]);
    }

    #[test]
    fn the_file_of_another_program_is_refused() {
        for (text, part) in [
            (r#"{"name":"x"}"#, "found null"),
            (r#"{"schema":"theirs/1"}"#, "found \"theirs/1\""),
            (r#"["bitnet-trace/1"]"#, "expected a map"),
            ("{", "EOF"),
        ] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains(MANIFEST) && error.contains(part) && !error.contains("a record"), "{error}");
        }
    }
}
