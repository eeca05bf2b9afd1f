//! Checkpoints as they are published: a Hugging Face directory, or a GGUF file. `docs/FORMATS.md` describes both.

pub mod gguf;
pub mod inspect;
pub mod pack;
pub(crate) mod safetensors;
pub(crate) mod shards;
pub(crate) mod stored;
mod text;
mod weights;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use weights::Weights;

use self::gguf::Metadata;
use self::stored::Contents;
use self::weights::Tensors;
use crate::bytes::{map, read};
use crate::config::Config;
use crate::error::{Error, Result};

/// The configuration of a Hugging Face checkpoint.
pub(crate) const CONFIG: &str = "config.json";
/// The tensors of a Hugging Face checkpoint that is in one part.
pub(crate) const TENSORS: &str = "model.safetensors";
/// How the `.bin` files begin that older versions of transformers wrote instead, which hold a program to run.
const PICKLED: &str = "pytorch_model";
/// The most files that a message names.
const MOST_NAMED: usize = 5;

/// The largest JSON file that is read. The tokenizer of 2B-4T has 17 MB.
pub(crate) const LARGEST_JSON: u64 = 256 << 20;

/// A checkpoint mapped into memory and checked to be what its configuration says.
#[derive(Debug)]
pub struct Checkpoint {
    /// Sizes and constants.
    pub config: Config,
    tensors: Tensors,
    /// The files of tensors, in the order of their names.
    files: Vec<Bytes>,
    metadata: Option<Metadata>,
    /// Where the files beside the tensors are.
    beside: Beside,
}

/// The files beside the tensors, such as `tokenizer.json`.
#[derive(Debug)]
enum Beside {
    Directory(PathBuf),
    /// Part of the program, or none: the name shown in place of the directory, and names and contents.
    Files(String, &'static [(&'static str, &'static [u8])]),
}

/// What a path given as a checkpoint is.
pub(crate) enum Place {
    /// A directory with `config.json`.
    HuggingFace(PathBuf),
    /// A GGUF file.
    Gguf(PathBuf),
}

impl Place {
    /// Tells a directory with `config.json` from a GGUF file and from a directory that holds nothing but one.
    ///
    /// # Errors
    ///
    /// If the path does not exist, or is a directory without `config.json` and with several GGUF files.
    pub(crate) fn of(path: &Path) -> Result<Self> {
        if path.is_file() || (path.extension() == Some(OsStr::new("gguf")) && !path.is_dir()) {
            return Ok(Self::Gguf(path.to_owned()));
        }
        let config = path.join(CONFIG);
        if config.exists() || !path.is_dir() {
            return Ok(Self::HuggingFace(path.to_owned()));
        }
        let mut found: Vec<PathBuf> = fs::read_dir(path)
            .map_err(Error::read(path))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|file| file.extension() == Some(OsStr::new("gguf")))
            .collect();
        found.sort();
        match found.len() {
            0 => Ok(Self::HuggingFace(path.to_owned())),
            1 => Ok(Self::Gguf(found.swap_remove(0))),
            _ => Err(Error::Format {
                file: path.display().to_string(),
                reason: format!(
                    "no {CONFIG}, and {} GGUF files; name one of them: {}",
                    found.len(),
                    found.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
                ),
            }),
        }
    }
}

/// Whether a file is of safetensors, by its name or its beginning, and not of GGUF.
fn is_safetensors(file: &Path, bytes: &[u8]) -> bool {
    file.extension() == Some(OsStr::new("safetensors")) || safetensors::is_one(bytes)
}

/// Maps the one file of tensors of a directory.
///
/// # Errors
///
/// If there is none, which says so if there are tensors of another format, or it cannot be mapped.
fn map_tensors(directory: &Path) -> Result<Bytes> {
    let single = directory.join(TENSORS);
    if single.symlink_metadata().is_ok() {
        return map(&single);
    }
    let entries = fs::read_dir(directory).map_err(Error::read(directory))?;
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.file_name().into())).collect();
    names.sort();
    let those = |extension: &str, start: &str| {
        let fits = |name: &&PathBuf| {
            name.extension() == Some(OsStr::new(extension))
                && name.as_os_str().as_encoded_bytes().starts_with(start.as_bytes())
        };
        let found = names.iter().filter(fits).take(MOST_NAMED).map(|name| name.display().to_string());
        Some(found.collect::<Vec<_>>().join(", ")).filter(|found| !found.is_empty())
    };
    let reason = if let Some(gguf) = those("gguf", "") {
        format!("{CONFIG}, but no {TENSORS}; to use a GGUF file, name the file: {gguf}")
    } else if let Some(pickled) = those("bin", PICKLED) {
        format!(
            "{CONFIG}, but no {TENSORS}; {pickled} is not read: convert it to safetensors (`from_pretrained`, then \
             `save_pretrained` of transformers)"
        )
    } else {
        return map(&single);
    };
    Err(Error::Format { file: directory.display().to_string(), reason })
}

impl Checkpoint {
    /// Opens a checkpoint: a directory with `config.json` and `model.safetensors` (or the files of
    /// `model.safetensors.index.json`), a `.gguf` file, or a directory that holds exactly one and no `config.json`.
    ///
    /// The tensors are mapped into memory, not read. A file must not be shortened while it is in use: that ends the
    /// process. Renaming another file over it is safe.
    ///
    /// # Errors
    ///
    /// If a file is missing, unreadable or malformed, or the configuration is not that of a BitNet.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        match Place::of(path.as_ref())? {
            Place::HuggingFace(directory) => Self::hugging_face(directory),
            Place::Gguf(file) => Self::gguf(&file),
        }
    }

    fn hugging_face(directory: PathBuf) -> Result<Self> {
        let config_file = directory.join(CONFIG);
        let config = Config::from_json(&read(&config_file, LARGEST_JSON)?, &config_file.display().to_string())?;
        let single = directory.join(TENSORS);
        // As in transformers, the one file is used where both are there.
        let (place, contents) = if !single.exists() && directory.join(shards::INDEX).exists() {
            (directory.join(shards::INDEX), shards::open(&directory)?)
        } else {
            let contents = safetensors::open(&single.display().to_string(), &map_tensors(&directory)?)?;
            (single, vec![contents])
        };
        Ok(Self::new(config, place.display().to_string(), contents, None, Beside::Directory(directory)))
    }

    fn gguf(file: &Path) -> Result<Self> {
        let name = file.display().to_string();
        let bytes = map(file)?;
        if is_safetensors(file, &bytes) {
            let reason =
                format!("a safetensors file, one file of a checkpoint; name its directory, which also holds {CONFIG}");
            return Err(Error::Format { file: name, reason });
        }
        let directory = file.parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { beside: Beside::Directory(directory), ..Self::from_gguf(&name, &bytes)? })
    }

    /// A checkpoint of a GGUF file in memory; `name` stands for the file in messages. It has no files beside it.
    ///
    /// # Errors
    ///
    /// If the file is malformed or not that of a BitNet.
    pub fn from_gguf(name: &str, file: &Bytes) -> Result<Self> {
        let scan = gguf::scan(name, file);
        let contents = scan.contents.sound()?;
        let config = gguf::config(&scan.metadata, &contents.tensors)?;
        Ok(Self::new(config, name.to_owned(), vec![contents], Some(scan.metadata), Beside::Files(name.to_owned(), &[])))
    }

    /// A checkpoint of a `config.json` and a `model.safetensors` in memory; `name` stands for their directory in messages.
    /// It has no files beside it.
    ///
    /// # Errors
    ///
    /// If a file is malformed or not that of a BitNet.
    pub fn from_safetensors(name: &str, config: &[u8], tensors: &Bytes) -> Result<Self> {
        let beside = Beside::Files(name.to_owned(), &[]);
        let config = Config::from_json(config, &beside.name(CONFIG))?;
        let place = beside.name(TENSORS);
        let contents = safetensors::open(&place, tensors)?;
        Ok(Self::new(config, place, vec![contents], None, beside))
    }

    /// Reads a checkpoint that is part of the program; messages show `name` in place of the directory.
    pub(crate) fn embedded(name: &str, files: &'static [(&'static str, &'static [u8])]) -> Result<Self> {
        let file = |file: &str| {
            files.iter().find(|(name, _)| *name == file).map_or(Bytes::new(), |(_, bytes)| Bytes::from_static(bytes))
        };
        let checkpoint = Self::from_safetensors(name, &file(CONFIG), &file(TENSORS))?;
        Ok(Self { beside: Beside::Files(name.to_owned(), files), ..checkpoint })
    }

    fn new(config: Config, place: String, contents: Vec<Contents>, metadata: Option<Metadata>, beside: Beside) -> Self {
        let files = contents.iter().map(|contents| contents.bytes.clone()).collect();
        let tensors = contents.into_iter().flat_map(|contents| contents.tensors);
        let by_name: HashMap<_, _> = tensors.map(|tensor| (tensor.name.clone(), tensor)).collect();
        Self { config, tensors: Tensors { place, by_name }, files, metadata, beside }
    }

    /// The tensors, as layers.
    #[must_use]
    pub fn weights(&self) -> Weights<'_> {
        Weights::new(&self.tensors, self.config.flavour)
    }

    /// The metadata of a GGUF file, such as its vocabulary under `tokenizer.*`; `None` for a Hugging Face checkpoint.
    #[must_use]
    pub fn metadata(&self) -> Option<&Metadata> {
        self.metadata.as_ref()
    }

    /// A file beside the tensors, such as `tokenizer.json`, by its name; `None` if there is none.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub(crate) fn beside(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        self.beside.read(name)
    }

    /// Where a file beside the tensors is or would be, for messages.
    pub(crate) fn beside_name(&self, name: &str) -> String {
        self.beside.name(name)
    }

    /// BLAKE3 of the files of tensors, one after the other in the order of their names, 64 hex digits. Only with the
    /// feature `trace`: without it this crate does not depend on `blake3`.
    #[cfg(feature = "trace")]
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for file in &self.files {
            hasher.update(file);
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The bytes of all files of tensors together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len() as u64).sum()
    }
}

impl Beside {
    fn name(&self, file: &str) -> String {
        match self {
            Self::Directory(directory) => directory.join(file).display().to_string(),
            Self::Files(name, _) => format!("{name}/{file}"),
        }
    }

    fn has(&self, file: &str) -> bool {
        match self {
            // A link that points nowhere counts: reading it says what is wrong.
            Self::Directory(directory) => fs::symlink_metadata(directory.join(file)).is_ok(),
            Self::Files(_, files) => files.iter().any(|(name, _)| *name == file),
        }
    }

    fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>> {
        match self {
            Self::Directory(directory) => {
                if self.has(file) {
                    Ok(Some(Cow::Owned(read(&directory.join(file), LARGEST_JSON)?)))
                } else {
                    Ok(None)
                }
            }
            Self::Files(_, files) => {
                let found = files.iter().find(|(name, _)| *name == file);
                Ok(found.map(|(_, bytes)| Cow::Borrowed(*bytes)))
            }
        }
    }
}
