//! Reading `run.json`.

use std::io::Read;
use std::path::Path;

use super::pieces::{LARGEST, open};
use crate::error::Error;
use crate::record::Manifest;
use crate::record::layout::MANIFEST;

impl Manifest {
    /// Reads the `run.json` of a trace directory, or the one beside a file of records. `None` where there
    /// is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is not the `run.json` of a trace.
    pub fn open(path: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        let path = path.as_ref();
        let directory = if path.is_file() { path.parent().unwrap_or(Path::new("")) } else { path };
        let path = directory.join(MANIFEST);
        if !path.exists() {
            return Ok(None);
        }
        let mut json = Vec::new();
        open(&path)?.take(LARGEST).read_to_end(&mut json).map_err(Error::io("read", &path))?;
        match serde_json::from_slice(&json) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(error) => Err(Error::Damaged { path, reason: error.to_string() }),
        }
    }
}
