//! Format `files`: one pretty JSON file a record.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::name::file_stem;
use crate::record::TraceRecord;

/// How many names that sanitize alike get files of their own before giving up.
const MOST_ALIKE: usize = 10_000;

/// Writes `{file stem}.trace` files into a directory.
pub(crate) struct Files {
    directory: PathBuf,
}

impl Files {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Never overwrites: a name that is taken gets `~2`, `~3`, ... A file that could not be written
    /// whole is taken away again.
    pub(crate) fn write(&self, record: &TraceRecord) -> Result<(), Error> {
        let stem = file_stem(&record.name);
        let mut path = self.directory.join(format!("{stem}.trace"));
        let mut file = OpenOptions::new();
        file.write(true).create_new(true);
        let mut alike = 1;
        let mut file = loop {
            match file.open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && alike < MOST_ALIKE => {
                    alike += 1;
                    path = self.directory.join(format!("{stem}~{alike}.trace"));
                }
                opened => break opened.map_err(Error::io("create", &path))?,
            }
        };
        let json = serde_json::to_vec_pretty(record).map_err(io::Error::from);
        json.and_then(|json| file.write_all(&json)).map_err(|error| {
            let _ = fs::remove_file(&path);
            Error::io("write", &path)(error)
        })
    }
}
