//! What can go wrong while training, checking and writing.

use std::path::PathBuf;

/// An error of the trainer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
    /// The checkpoint could not be laid out.
    #[error("model.safetensors: {0}")]
    SafeTensors(#[from] safetensors::SafeTensorError),
    /// A JSON file could not be laid out.
    #[error("cannot lay out JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The finished model could not be read back or run.
    #[error(transparent)]
    Model(#[from] bitnet_models::Error),
    /// No temporary directory could be made to try the finished model in.
    #[error("cannot make a temporary directory: {0}")]
    Temporary(std::io::Error),
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A number does not fit where it has to go.
    #[error("a count does not fit its type: {0}")]
    Count(#[from] std::num::TryFromIntError),
    /// A weight that the model needs does not exist.
    #[error("there is no weight named {0:?}")]
    MissingWeight(String),
    /// The model has no token for a character.
    #[error("the vocabulary has no token for {0:?}; expected digits, '+' and '='")]
    UnknownCharacter(char),
    /// A thread of the trainer panicked.
    #[error("a training thread stopped before it returned its gradients")]
    Thread,
    /// The trained model does not add well enough to be shipped.
    #[error("not written: {0}")]
    Refused(String),
}

/// A result of the trainer.
pub(crate) type Result<T> = std::result::Result<T, Error>;
