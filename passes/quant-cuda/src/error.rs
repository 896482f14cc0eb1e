//! What can go wrong with a GPU.

use icd_quant::QuantError;

/// A GPU cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CudaError {
    /// No driver, no device, or one that is too old.
    #[error("no CUDA device: {what}")]
    NoDevice {
        /// What is missing.
        what: String,
    },
    /// The library of matrix products is missing or lacks a function.
    #[error("no cuBLAS: {what}; put its folder on the library path (LD_LIBRARY_PATH)")]
    NoLibrary {
        /// What was looked for.
        what: String,
    },
    /// A call failed.
    #[error("the GPU could not {what}: {code}")]
    Failed {
        /// Step that failed.
        what: String,
        /// What the driver or the library said.
        code: String,
    },
}

impl From<CudaError> for QuantError {
    fn from(error: CudaError) -> Self {
        QuantError::Device(error.to_string())
    }
}

/// Result of a step on the GPU.
pub(crate) type Result<T> = std::result::Result<T, CudaError>;
