//! A file as bytes, mapped into memory instead of read.
//!
//! `unsafe`: a map is a slice of a file that other programs may change while it is borrowed, which Rust cannot see.
//! The checkpoint formats hold plain numbers, of which every bit pattern is valid, so a file that is *rewritten* meanwhile
//! gives other numbers. A file that is *shortened* meanwhile ends the process with `SIGBUS` (on Windows the system
//! refuses to shorten it): replace checkpoints by renaming a new file over the old one, as every downloader does.
#![allow(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

use crate::error::{Error, Result};

/// Maps a file. Clones and slices of the result share the map.
///
/// # Errors
///
/// If the file is missing, is not a regular file (symbolic links are followed: the cache of the Hugging Face hub is
/// made of them), or cannot be mapped.
pub(crate) fn map(path: &Path) -> Result<Bytes> {
    let refuse = |reason: String| Error::Format { file: path.display().to_string(), reason };
    let metadata = metadata(path)?;
    if !metadata.is_file() {
        let kind = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(refuse(format!("{kind}; expected a regular file")));
    }
    let file = File::open(path).map_err(Error::read(path))?;
    // SAFETY: the slice is only read, as bytes. What another program does to the file meanwhile is stated above.
    let map = unsafe { Mmap::map(&file) }.map_err(Error::read(path))?;
    Ok(Bytes::from_owner(map))
}

/// Reads a small file whole, such as a configuration or a tokenizer.
///
/// # Errors
///
/// If it is missing, unreadable, not a regular file, or larger than `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let metadata = metadata(path)?;
    let refuse = |reason: String| Error::Format { file: path.display().to_string(), reason };
    if !metadata.is_file() {
        return Err(refuse("expected a regular file, found a directory, device, pipe or socket".to_owned()));
    }
    if metadata.len() > limit {
        return Err(refuse(format!("{} bytes; expected at most {limit}", metadata.len())));
    }
    fs::read(path).map_err(Error::read(path))
}

/// What a path is, without opening it: opening a pipe would wait for its writer. Names the target of a link that points
/// nowhere.
fn metadata(path: &Path) -> Result<fs::Metadata> {
    fs::metadata(path).map_err(|source| match fs::read_link(path) {
        Ok(target) if source.kind() == io::ErrorKind::NotFound => Error::Format {
            file: path.display().to_string(),
            reason: format!(
                "a symbolic link to {}, which does not exist; download the file again, or copy what the link stands for",
                target.display()
            ),
        },
        _ => Error::Read { path: path.to_owned(), source },
    })
}

#[cfg(test)]
mod tests {
    use super::{map, read};

    #[test]
    fn a_file_is_mapped_and_what_is_no_file_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        std::fs::write(&file, b"12345").expect("written");
        assert_eq!(map(&file).expect("mapped"), "12345");
        assert!(read(&file, 4).is_err_and(|error| error.to_string().contains("5 bytes; expected at most 4")));
        std::fs::write(&file, b"").expect("written");
        assert_eq!(map(&file).expect("mapped"), "");
        for refused in [map(directory.path()), read(directory.path(), 9).map(Into::into)] {
            assert!(refused.is_err_and(|error| error.to_string().contains("regular file")));
        }
        assert!(map(&directory.path().join("none")).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_a_dangling_one_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("blob"), directory.path().join("link"));
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        for dangling in [map(&link), read(&link, 9).map(Into::into)] {
            let message = dangling.expect_err("dangling").to_string();
            assert!(message.contains("symbolic link to") && message.contains("blob"), "{message}");
        }
        std::fs::write(&file, b"12345").expect("written");
        assert_eq!(map(&link).expect("mapped"), "12345");
    }
}
