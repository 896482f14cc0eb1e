//! Kernels for NVIDIA GPUs, emitted as PTX through LLVM's NVPTX back end.

pub mod gemm;
pub mod gemm_decode;
pub mod gemm_epilogue;
pub mod gemm_fragments;
pub mod gemm_mma;
pub mod gemm_warp;
pub mod intrinsics;
pub mod kernel_module;
pub mod ptx_builder;

pub use kernel_module::{KernelError, KernelModule, Param, Unsupported};
