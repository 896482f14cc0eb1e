//! Why a program could not be compiled.

use icd_core::graph::{Loc, Op};

/// Error of the code generators. Each variant says whose fault it is.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// The program uses something that no kernel covers (a limit of this compiler).
    #[error("{op} (location {}): {why}; {remedy}", .loc.0)]
    Unsupported {
        /// Operation name with its dialect.
        op: String,
        /// Where it came from: the importer's handle, which the caller resolves to file, line and column.
        loc: Loc,
        /// What is not covered.
        why: String,
        /// What the user can do.
        remedy: String,
    },
    /// The program breaks a rule of the graph IR (the importer's or a pass's fault).
    #[error("{op} (location {}): invalid program: {why}; run the verifier on the input of this stage", .loc.0)]
    Invalid {
        /// Operation name with its dialect.
        op: String,
        /// Where it came from.
        loc: Loc,
        /// The broken rule.
        why: String,
    },
    /// A region does not have the form that a kernel family expects; callers answer by another family (a limit of this compiler).
    #[error("no kernel matches this region: {why}; compile without icd-fuse to see which operation it is")]
    Mismatch {
        /// What does not fit.
        why: String,
    },
    /// The module has no function to compile (user input).
    #[error("the module has no entry: name one function @main, or make exactly one function public")]
    NoEntry,
    /// Sizes overflow what memory can hold (user input).
    #[error("{what} does not fit into memory: {why}")]
    TooLarge {
        /// The value or buffer.
        what: String,
        /// Numbers.
        why: String,
    },
    /// LLVM rejected or could not compile the code that was made (our bug).
    #[error("internal error: LLVM {stage}: {message}")]
    Llvm {
        /// Step that failed.
        stage: &'static str,
        /// LLVM's words.
        message: String,
    },
    /// The target that was asked for does not exist (user input).
    #[error("unknown target '{name}': use one of {known}")]
    UnknownTarget {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No linker, or it failed (installation).
    #[error("linking the shared object failed: {why}; install lld-22, or set ICD_LLD to the path of ld.lld")]
    Link {
        /// What went wrong.
        why: String,
    },
}

/// Result of code generation.
pub type Result<T, E = CodegenError> = std::result::Result<T, E>;

impl CodegenError {
    /// An operation that no kernel covers.
    pub fn unsupported(op: &Op, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        CodegenError::Unsupported { op: op.kind.name(), loc: op.loc, why: why.into(), remedy: remedy.into() }
    }
    /// An operation that breaks a rule of the graph IR.
    pub fn invalid(op: &Op, why: impl Into<String>) -> Self {
        CodegenError::Invalid { op: op.kind.name(), loc: op.loc, why: why.into() }
    }
}
