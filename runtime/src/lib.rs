//! Runs artifacts on the CPU or a CUDA device, times them, and reports. Needs neither LLVM nor MLIR; CUDA is loaded when it is used.
#![warn(clippy::unwrap_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking"))]

pub mod cli;
mod cpu;
pub mod cuda;
pub mod energy;
mod error;
pub mod gate;
pub mod machine;
mod memory;
mod random;
pub mod record;
pub mod report;
pub mod schedule;
mod session;
pub mod statistics;
pub mod tensors;
pub mod tune;

pub use error::RuntimeError;
pub use memory::AlignedBytes;
pub use session::{Backend, L2State, Session, StepTime};
