//! Kernels of the weight quantizers on a GPU. They use nothing beyond sm_80, whose PTX runs on all later devices; `icd-quant-cuda` carries that text, since
//! quantizing must not need LLVM.

mod exact;
pub mod factor;
pub mod gptq_block;
pub mod grid_fit;
pub mod refine;
pub mod vector_assign;
pub mod vector_fit;
pub mod vector_recode;
pub mod vector_sweep;

use super::kernel_module::KernelError;
use icd_core::arch::Arch;

type Emit = fn(Arch) -> Result<String, KernelError>;

/// Every kernel by its entry's name.
pub const KERNELS: &[(&str, Emit)] = &[
    ("column_products", refine::column_products),
    ("diagonal", factor::diagonal),
    ("factor_block", factor::factor_block),
    ("gather_hessian", factor::gather_hessian),
    ("gather_weight", factor::gather_weight),
    ("gptq_block", gptq_block::gptq_block),
    ("gptq_grids", gptq_block::gptq_grids),
    ("mirror", factor::mirror),
    ("refine_codes", refine::refine_codes),
    ("refine_errors", refine::refine_errors),
    ("refine_levels", refine::refine_levels),
    ("refine_narrow", refine::refine_narrow),
    ("refine_scales", refine::refine_scales),
    ("refine_widen", refine::refine_widen),
    ("reverse", factor::reverse),
    ("unit_diagonal", factor::unit_diagonal),
    ("vector_assign_4", |arch| vector_assign::emit(arch, "vector_assign_4", 4)),
    ("vector_assign_8", |arch| vector_assign::emit(arch, "vector_assign_8", 8)),
    ("vector_assign_16", |arch| vector_assign::emit(arch, "vector_assign_16", 16)),
    ("vector_expand", vector_fit::vector_expand),
    ("vector_recode_4", |arch| vector_recode::emit(arch, "vector_recode_4", 4)),
    ("vector_recode_8", |arch| vector_recode::emit(arch, "vector_recode_8", 8)),
    ("vector_recode_16", |arch| vector_recode::emit(arch, "vector_recode_16", 16)),
    ("vector_sums", vector_fit::vector_sums),
    ("vector_sweep_4", |arch| vector_sweep::emit(arch, "vector_sweep_4", 4)),
    ("vector_sweep_8", |arch| vector_sweep::emit(arch, "vector_sweep_8", 8)),
    ("vector_sweep_16", |arch| vector_sweep::emit(arch, "vector_sweep_16", 16)),
];
