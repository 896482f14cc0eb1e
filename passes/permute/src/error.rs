//! Why a permutation cannot be searched or checked.

use std::{io, path::PathBuf};

/// Errors of reading problems, of their arguments and of checking results.
#[derive(Debug, thiserror::Error)]
pub enum PermuteError {
    /// The file system refused.
    #[error("{path}: {cause}")]
    Io {
        /// File.
        path: PathBuf,
        /// Cause.
        cause: io::Error,
    },
    /// User input: a line of an edge list cannot be used.
    #[error("{path}:{line}: {what}")]
    EdgeList {
        /// File.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to do.
        what: String,
    },
    /// User input: an edge cannot be part of a graph.
    #[error("edge {index} ({a}, {b}, {weight}): {what}")]
    Edge {
        /// Position in the list of edges.
        index: usize,
        /// One end.
        a: u32,
        /// Other end.
        b: u32,
        /// Weight.
        weight: f64,
        /// What is wrong and what to do.
        what: &'static str,
    },
    /// User input: a matrix file cannot be used.
    #[error("{path}: {what}")]
    Matrix {
        /// File.
        path: PathBuf,
        /// What is wrong and what to do.
        what: String,
    },
    /// User input: an argument is out of its domain.
    #[error("{0}")]
    Argument(String),
    /// A size exceeds what the library holds.
    #[error("{what} exceeds the limit of {limit}")]
    Limit {
        /// What is too large.
        what: String,
        /// The limit.
        limit: usize,
    },
    /// Our bug or user input: an order is not a permutation.
    #[error("not a permutation of {len}: position {position} holds {channel}, {what}")]
    NotAPermutation {
        /// Length that was expected.
        len: usize,
        /// First position at fault.
        position: usize,
        /// What it holds.
        channel: usize,
        /// What is wrong with it.
        what: &'static str,
    },
}
