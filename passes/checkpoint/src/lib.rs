//! Hugging Face model folders: reading them, running them block by block on the CPU, quantizing them, and measuring what quantization costs.
//! Pure Rust: no MLIR.
#![forbid(unsafe_code)]

pub mod arch;
pub mod config;
pub mod embeddings;
mod error;
pub mod folder;
pub mod layer;
pub mod layout;
pub mod ops;
pub mod perplexity;
pub mod rows;
pub mod run;
pub mod size;
pub mod text;

pub use error::{CheckpointError, Result};
