//! Kernels for NVIDIA GPUs, emitted as PTX through LLVM's NVPTX back end.

mod attention;
mod dot;
mod epilogue;
mod lower;
mod program;
#[cfg(test)]
mod program_tests;
mod attention_mma;
mod dot_simt;
#[cfg(test)]
mod emulate;
pub mod gemm;
pub mod gemm_decode;
pub mod gemm_epilogue;
pub mod gemm_fragments;
pub mod gemm_mma;
pub mod gemm_warp;
pub mod gemm_wgmma;
pub mod intrinsics;
mod kernel;
pub mod kernel_files;
pub mod kernel_module;
mod loops;
pub mod ptx_builder;
#[cfg(test)]
mod ptxas;
mod rows;
mod target;
mod view;

pub use program::{Compiled, CudaOptions, compile};
pub use kernel_module::{KernelError, KernelModule, Param, Unsupported};
