//! A generated kernel, or why there is none.

pub use icd_core::kernel_module::{KernelFile, KernelModule, Param};

/// Why no kernel was generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The family does not compute this problem.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// LLVM could not do what was asked: our bug, or an LLVM built without the target.
    #[error("LLVM could not {what}: {message}")]
    Llvm {
        /// Step that failed.
        what: String,
        /// LLVM's words.
        message: String,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {message}")]
    Write {
        /// Which file.
        path: String,
        /// Why.
        message: String,
    },
}

/// The constraint that a problem violates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {family} kernel computes this problem: {constraint}")]
pub struct Unsupported {
    /// Name of the family.
    pub family: &'static str,
    /// What it needs and what the problem has.
    pub constraint: String,
}
