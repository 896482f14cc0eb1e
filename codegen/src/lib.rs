//! Code generation: programs of the graph IR to native code and PTX, through LLVM.

pub mod cpu;
pub mod elemental;
pub mod error;
pub mod ll;
pub mod math;
pub mod nvptx;
pub mod plan;
mod regroup;
pub mod scan;
pub mod schedule;

pub use error::{CodegenError, Result};
