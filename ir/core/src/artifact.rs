//! Artifacts on disk: one zip file with `manifest.json`, code (`*.ptx`, `*.so`), `weights.safetensors`, and what documents them
//! (`ir.mlir`, `report.json`).
//!
//! Weights and shared objects are stored uncompressed and aligned to 64 bytes, so the weights are used in place from the mapped file. All
//! else is deflated. Members are sorted by name and carry no times, so equal content gives equal bytes.

mod read;
mod schedule;
mod write;

pub use read::Artifact;
pub use schedule::{ScheduleError, validate};
pub use write::Writer;

use crate::weights::WeightError;
use std::{io, path::PathBuf};

/// The member with the manifest.
pub const MANIFEST: &str = "manifest.json";
/// The member with the weights.
pub const WEIGHTS: &str = "weights.safetensors";
/// The member with the optimized program, for people.
pub const IR: &str = "ir.mlir";
/// The member with the compiler's report.
pub const REPORT: &str = "report.json";
/// [`crate::manifest::Manifest::format`] of every artifact.
pub const FORMAT: &str = "icd-artifact";

/// Why an artifact cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// User input: not an artifact, or a damaged one.
    #[error("{path}: not a valid artifact: {what}; copy the file again, or compile the model again")]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// User input: written by a newer, incompatible compiler.
    #[error("{path}: artifact format {}.{}, but this program reads up to {}.x; use a newer icd-run, or compile the model again with this version", found.0, found.1, supported.0)]
    Version {
        /// File.
        path: PathBuf,
        /// Version of the file.
        found: (u32, u32),
        /// Newest version that this program knows.
        supported: (u32, u32),
    },
    /// A member's bytes are not those that the manifest vouches for.
    #[error("{path}: member '{member}' does not match its checksum; the file is damaged or was changed: copy it again")]
    Checksum {
        /// File.
        path: PathBuf,
        /// Member.
        member: String,
    },
    /// The manifest asks for something impossible, such as a step that reads outside its buffer.
    #[error("{path}: manifest.json: {place}: {what}; compile the model again")]
    Manifest {
        /// File.
        path: PathBuf,
        /// Which part of it.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The weights cannot be read or stored.
    #[error("{WEIGHTS} of the artifact: {0}")]
    Weights(#[from] WeightError),
    /// A limit of [`crate::limits`] is exceeded.
    #[error("{path}: {what} exceeds the limit of {limit}")]
    Limit {
        /// File.
        path: PathBuf,
        /// What is too large.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// Misuse of [`Writer`]: a name that cannot be a member's, or given twice.
    #[error("cannot add member '{member}': {what}")]
    Member {
        /// Member.
        member: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl ArtifactError {
    /// Whether a limit was hit (exit code 3) rather than an error found (exit code 1).
    pub fn is_limit(&self) -> bool {
        match self {
            ArtifactError::Limit { .. } => true,
            ArtifactError::Weights(e) => e.is_limit(),
            _ => false,
        }
    }
}

/// Why `name` is not a safe name for a member, if so: names are relative, with `/` between non-empty parts, none of them `.` or `..`.
fn unsafe_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("the name is empty")
    } else if name.len() > crate::limits::NAME_BYTES {
        Some("the name is too long")
    } else if name.chars().any(char::is_control) {
        Some("the name holds a control character")
    } else if name.contains('\\') || name.contains(':') {
        Some("the name holds a backslash or colon")
    } else if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        Some("the name is absolute or leaves its folder")
    } else {
        None
    }
}
