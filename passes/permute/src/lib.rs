//! Searches permutations of channels. Pure Rust on graphs and matrices: no IR.
#![forbid(unsafe_code)]

mod edge_list;
mod error;
mod graph;
mod matrix;
mod matrix_file;
pub mod objective;
mod permutation;
mod random;
pub mod solver;

pub use edge_list::read_edge_list;
pub use error::PermuteError;
pub use graph::{Edge, Graph, MAX_EDGES, MAX_VERTICES};
pub use matrix::Matrix;
pub use matrix_file::read_matrix;
pub use permutation::Permutation;
pub use random::Random;
