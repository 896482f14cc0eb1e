//! Hugging Face model folders: reading them, running them block by block on the CPU, quantizing them, and measuring what quantization costs.
//! Pure Rust: no MLIR.
#![forbid(unsafe_code)]

pub mod arch;
pub mod config;
pub mod embeddings;
pub mod encode;
mod error;
pub mod export;
pub mod fold;
pub mod folder;
pub mod importance;
pub mod kv_cache;
pub mod layer;
pub mod layer_times;
pub mod layout;
pub mod ops;
pub mod perplexity;
pub mod plan;
pub mod preprocess;
pub mod quantize;
pub mod rows;
pub mod run;
pub mod scheme;
pub mod sensitivity;
pub mod size;
pub mod sparsity;
pub mod statistics;
pub mod store;
pub mod stream;
pub mod text;

pub use error::{CheckpointError, Result};
