//! A Hugging Face checkpoint: `config.json`, `model.safetensors` and, for text, `tokenizer.json`.

mod safetensors;
mod ternary;
mod weights;

use std::borrow::Cow;
use std::fs;
use std::path::Path;

pub use weights::Weights;

use self::safetensors::TensorFile;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

const CONFIG: &str = "config.json";
const TENSORS: &str = "model.safetensors";
const TOKENIZER: &str = "tokenizer.json";

/// A checkpoint read into memory and checked to be what its configuration says.
#[derive(Debug)]
pub struct Checkpoint {
    /// Sizes and constants.
    pub config: Config,
    tensors: TensorFile,
    /// File name and contents; `None` if the checkpoint has no tokenizer.
    tokenizer: Option<Cow<'static, [u8]>>,
    /// Where `tokenizer.json` is or would be, for messages.
    tokenizer_file: String,
}

impl Checkpoint {
    /// Reads a checkpoint directory.
    ///
    /// # Errors
    ///
    /// If a file is missing, unreadable or malformed, or the configuration is not that of a BitNet.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self> {
        let directory = directory.as_ref();
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read(&path).map(|bytes| (path.display().to_string(), bytes)).map_err(Error::read(&path))
        };
        let (config_file, config) = read(CONFIG)?;
        let config = Config::from_json(&config, &config_file)?;
        let (tensors_file, tensors) = read(TENSORS)?;
        let tokenizer_path = directory.join(TOKENIZER);
        let tokenizer = if tokenizer_path.exists() { Some(Cow::Owned(read(TOKENIZER)?.1)) } else { None };
        Ok(Self {
            config,
            tensors: TensorFile::new(tensors_file, tensors.into())?,
            tokenizer,
            tokenizer_file: tokenizer_path.display().to_string(),
        })
    }

    /// Reads a checkpoint that is part of the program; messages show `name` in place of the directory.
    pub(crate) fn embedded(
        name: &str,
        config: &'static [u8],
        tensors: &'static [u8],
        tokenizer: &'static [u8],
    ) -> Result<Self> {
        let file = |file: &str| format!("{name}/{file}");
        Ok(Self {
            config: Config::from_json(config, &file(CONFIG))?,
            tensors: TensorFile::new(file(TENSORS), tensors.into())?,
            tokenizer: Some(tokenizer.into()),
            tokenizer_file: file(TOKENIZER),
        })
    }

    /// The tensors, as layers.
    #[must_use]
    pub fn weights(&self) -> Weights<'_> {
        Weights::new(&self.tensors, self.config.flavour)
    }

    /// The tokenizer.
    ///
    /// # Errors
    ///
    /// If the checkpoint has none, or it is malformed.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let file = self.tokenizer_file.clone();
        match &self.tokenizer {
            Some(json) => Tokenizer::from_json(json, file),
            None => Err(Error::Tokenizer {
                file,
                reason: "the file does not exist; a prompt needs it, token ids (`--tokens`) do not".to_owned(),
            }),
        }
    }

    /// Whether the checkpoint has a tokenizer.
    #[must_use]
    pub fn has_tokenizer(&self) -> bool {
        self.tokenizer.is_some()
    }

    /// BLAKE3 of `model.safetensors`, 64 hex digits. Only with the feature `trace`: without it this crate does not
    /// depend on `blake3`.
    #[cfg(feature = "trace")]
    #[must_use]
    pub fn digest(&self) -> String {
        blake3::hash(self.tensors.bytes()).to_hex().to_string()
    }
}
