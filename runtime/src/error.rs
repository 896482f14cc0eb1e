//! Why a program cannot be loaded or run.

use icd_core::{artifact::ArtifactError, weights::WeightError};
use std::{io, path::PathBuf};

/// Errors of loading and running artifacts.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The artifact cannot be read.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// A tensor file cannot be read or written.
    #[error(transparent)]
    Weights(#[from] WeightError),
    /// User input: the artifact holds no program for the backend asked for.
    #[error("{path} holds no {wanted} program, only {available}; use another --backend or compile for {wanted}")]
    NoProgram {
        /// Artifact.
        path: PathBuf,
        /// Backend asked for.
        wanted: &'static str,
        /// What the artifact holds.
        available: String,
    },
    /// The code needs CPU features that this machine lacks.
    #[error(
        "the artifact's CPU code is for {triple} with {missing}, which this machine ({machine}) lacks; compile for a CPU of this level"
    )]
    Cpu {
        /// Target triple of the code.
        triple: String,
        /// Missing features, or the wrong architecture.
        missing: String,
        /// What the machine is.
        machine: String,
    },
    /// The shared object cannot be loaded.
    #[error("cannot load '{object}' of the artifact: {what}")]
    Load {
        /// Member.
        object: String,
        /// What the loader says.
        what: String,
    },
    /// Our bug: code and schedule do not belong together.
    #[error("'{object}' has no kernel '{symbol}'; the artifact's code and schedule do not match: compile the model again")]
    Symbol {
        /// Member or members.
        object: String,
        /// Kernel.
        symbol: String,
    },
    /// Not enough memory.
    #[error("cannot allocate {bytes} bytes for {what}: {reason}")]
    Memory {
        /// What for.
        what: String,
        /// How much.
        bytes: usize,
        /// Why not.
        reason: String,
    },
    /// User input: wrong number of tensors.
    #[error("the program has {expected} {kind}, {actual} were given")]
    Count {
        /// `inputs` or `outputs`.
        kind: &'static str,
        /// As many as the signature has.
        expected: usize,
        /// As many as were given.
        actual: usize,
    },
    /// User input: a tensor that does not fit the signature.
    #[error("{kind} {index} '{name}': {what}")]
    Tensor {
        /// `input` or `output`.
        kind: &'static str,
        /// Position.
        index: usize,
        /// Name in the signature.
        name: String,
        /// What does not fit.
        what: String,
    },
    /// No CUDA driver or device.
    #[error("CUDA is not available: {what}; use --backend cpu, or install the NVIDIA driver")]
    NoCuda {
        /// What is missing.
        what: String,
    },
    /// The device cannot run the code.
    #[error("the artifact's CUDA code is for {arch}, but device {device} is {found}; compile with arch={found}")]
    Arch {
        /// Architecture of the code.
        arch: String,
        /// Device name.
        device: String,
        /// Architecture of the device.
        found: String,
    },
    /// The driver cannot compile the PTX.
    #[error("the CUDA driver refuses '{member}': {code}\n{log}")]
    Ptx {
        /// Member.
        member: String,
        /// Error of the driver.
        code: String,
        /// Compiler log of the driver.
        log: String,
    },
    /// A call of the CUDA driver failed.
    #[error("CUDA: {what}: {code}")]
    Cuda {
        /// What was tried.
        what: String,
        /// Error of the driver.
        code: String,
    },
    /// User input: no kernels that can be measured.
    #[error("{path}: {what}; write kernels with 'icd kernel --candidates'")]
    Kernels {
        /// Folder or file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Cause.
        source: io::Error,
    },
}

impl RuntimeError {
    /// Whether a limit was hit (exit code 3) rather than an error found (exit code 1).
    pub fn is_limit(&self) -> bool {
        match self {
            RuntimeError::Artifact(e) => e.is_limit(),
            RuntimeError::Weights(e) => e.is_limit(),
            RuntimeError::Memory { .. } => true,
            _ => false,
        }
    }
}
