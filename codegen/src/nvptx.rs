//! Kernels for NVIDIA GPUs, emitted as PTX through LLVM's NVPTX back end.

mod attention;
mod attention_mma;
mod attention_split;
mod dot;
mod dot_simt;
mod dot_split;
#[cfg(test)]
mod emulate;
mod epilogue;
pub mod gemm;
pub mod gemm_decode;
pub mod gemm_epilogue;
pub mod gemm_fragments;
pub mod gemm_mma;
pub mod gemm_multicast;
pub mod gemm_transposed;
pub mod gemm_tuned;
pub mod gemm_warp;
pub mod gemm_warpgroup;
mod gemm_weights;
pub mod gemm_wgmma;
pub mod intrinsics;
mod kernel;
pub mod kernel_files;
pub mod kernel_module;
mod loops;
mod lower;
mod program;
#[cfg(test)]
mod program_tests;
pub mod ptx_builder;
#[cfg(test)]
mod ptxas;
pub mod quantizers;
mod rows;
mod scan;
mod target;
mod view;

pub use kernel_module::{KernelError, KernelModule, Param, Unsupported};
pub use program::{Compiled, CudaOptions, compile};
