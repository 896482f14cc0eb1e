//! Why a model folder cannot be read, run, quantized or evaluated.

use icd_core::weights::WeightError;
use std::io;
use std::path::{Path, PathBuf};

/// What goes wrong with model folders. Every variant but [`CheckpointError::Io`] is about what the user gave.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// User input: a file of the folder other than a weight file is missing or wrong.
    #[error("{path}: {what}")]
    File {
        /// File.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// Unsupported: an architecture, an activation function, a scheme.
    #[error("{0}")]
    Unsupported(String),
    /// User input: a weight file is damaged.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// User input: a tensor is missing or of the wrong shape or type.
    #[error("{path}: tensor '{tensor}' {what}")]
    Tensor {
        /// Folder.
        path: PathBuf,
        /// Tensor name.
        tensor: String,
        /// What is wrong.
        what: String,
    },
    /// User input: the text cannot be used.
    #[error("{0}")]
    Text(String),
    /// User input: options that contradict each other or the model.
    #[error("{0}")]
    Argument(String),
    /// A layer cannot be quantized.
    #[error("layer '{layer}': {what}")]
    Layer {
        /// Name of the layer.
        layer: String,
        /// What is wrong and what to do.
        what: String,
    },
}

impl CheckpointError {
    /// An error of the file system at `path`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> CheckpointError + use<> {
        let path = path.to_path_buf();
        move |source| CheckpointError::Io { path, source }
    }
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, CheckpointError>;
