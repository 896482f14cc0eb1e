//! What every part of icd shares: element types, tensor values, the graph IR, layouts, packed weight formats, and the
//! artifact manifest. Pure Rust: no MLIR, no LLVM, no CUDA.
#![forbid(unsafe_code)]

pub mod arch;
pub mod artifact;
pub mod cost;
pub mod dtype;
pub mod graph;
pub mod kernel_module;
pub mod layout;
pub mod limits;
pub mod literal;
pub mod manifest;
pub mod pack_format;
pub mod problem;
pub mod tune_table;
pub mod types;
pub mod weights;

pub use dtype::DType;
pub use literal::Literal;
pub use types::{TensorType, ValueType};
